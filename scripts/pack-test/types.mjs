// Whether TypeScript finds the installed package's types, in both ways of resolution that its users have.
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import path from 'node:path'

const mutexText = `import { type MutexLock, NamedMutex } from 'os-mutex'
const lock: MutexLock | null = new NamedMutex('x').tryAcquire({ purpose: 'types' })
// @ts-expect-error: proves that the types are there, and not any
const wrong: string = lock
export { lock, wrong }
`
const llamaText = `import { LlamaModelGate, type ModelProgress } from 'os-mutex/llama'
const gate = new LlamaModelGate({ modelsDirectory: 'models' })
export const model = gate.ensureModel('hf:user/repo/model.gguf', { onProgress: (progress: ModelProgress) => progress.done })
// @ts-expect-error: proves that the types are there, and not any
gate.ensureModel(1)
`

const cases = [
  { resolution: 'nodenext', module: 'nodenext', file: 'mutex.mts', text: mutexText },
  { resolution: 'nodenext', module: 'nodenext', file: 'mutex.cts', text: mutexText },
  { resolution: 'bundler', module: 'esnext', file: 'mutex.ts', text: mutexText },
  // The types of node-llama-cpp, an optional peer, are not installed, and nothing misses them.
  { resolution: 'nodenext', module: 'nodenext', file: 'llama.mts', text: llamaText },
  { resolution: 'bundler', module: 'esnext', file: 'llama.ts', text: llamaText },
]

/**
 * @param {string} project the prepared project's folder
 * @param {string} modules a node_modules folder with typescript and @types/node
 * @returns {{ name: string, passed: boolean, output: string }[]}
 */
export function checkTypes(project, modules) {
  return cases.map(({ resolution, module, file, text }) => {
    writeFileSync(path.join(project, file), text)
    const config = path.join(project, `tsconfig.${file}.json`)
    const compilerOptions = {
      module,
      moduleResolution: resolution,
      target: 'es2023',
      lib: ['es2023', 'esnext.disposable'],
      typeRoots: [path.join(modules, '@types')],
      types: ['node'],
      strict: true,
      noEmit: true,
      skipLibCheck: false,
    }
    writeFileSync(config, JSON.stringify({ compilerOptions, files: [file] }))
    const tsc = path.join(modules, 'typescript/bin/tsc')
    const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', config], { cwd: project, encoding: 'utf8' })
    return { name: `types of ${file}, moduleResolution ${resolution}`, passed: status === 0, output: stdout }
  })
}
