// What a user's program does with the package in every consumer: it excludes itself, waits, gives up in time, and gets a model.

const names = {
  'os-mutex': ['MutexTimeoutError', 'NamedMutex'],
  'os-mutex/llama': ['LlamaModelGate', 'ModelDownloadError'],
}

const body = `
  const directory = process.env.CONSUMER_FOLDER
  const options = { directory }
  const [first, second] = [new NamedMutex('consumer', options), new NamedMutex('consumer', options)]
  const lock = await first.acquire({ timeoutMs: 60_000 })
  const refused = await second.acquire({ timeoutMs: 20 }).catch((error) => error)
  if (!(refused instanceof MutexTimeoutError)) throw new Error('two owners, or another error', { cause: refused })
  const waiting = second.acquire({ timeoutMs: 60_000 })
  lock.release()
  const next = await waiting
  if (next.abandoned) throw new Error('a release was told as an abandonment')
  next.release()
  const gate = new LlamaModelGate({ modelsDirectory: directory, mutexDirectory: directory })
  const file = await gate.ensureModel(process.env.CONSUMER_MODEL)
  if (file.sha256 !== process.env.CONSUMER_SHA256) throw new Error('another file')
  // An error of the system's own, which in some test runners is of another realm than the package.
  const missing = await gate.ensureModel(process.env.CONSUMER_MODEL + '.none').catch((error) => error)
  if (!(missing instanceof ModelDownloadError) || missing.status !== 404) throw new Error('another error', { cause: missing })
`

const imports = Object.entries(names).map(([from, list]) => `import { ${list.join(', ')} } from '${from}'`)
const requires = Object.entries(names).map(([from, list]) => `const { ${list.join(', ')} } = require('${from}')`)

export const functionText = `async function use() {${body}}\n`
export const importText = `${imports.join('\n')}\n`
const requireText = `${requires.join('\n')}\n`

/** Programs that print `done` when all was as it should be. */
export const esm = `${importText}${functionText}await use()\nconsole.log('done')\n`
export const cjs = `${requireText}${functionText}use().then(() => console.log('done'))\n`

/** For test runners whose `test` is a global. */
export const importTest = `${importText}${functionText}test('os-mutex', use)\n`
export const requireTest = `${requireText}${functionText}test('os-mutex', use)\n`

/** TypeScript that compiles only where the package's own types are there, and are not `any`. */
export function typed({ hasLlama }) {
  return `import { type MutexLock, NamedMutex } from 'os-mutex'
import { LlamaModelGate, type ModelProgress } from 'os-mutex/llama'
const lock: MutexLock | null = new NamedMutex('x', { directory: undefined }).tryAcquire({ purpose: undefined })
// @ts-expect-error: proves that the types are there, and not any
const wrong: string = lock
const gate = new LlamaModelGate({ modelsDirectory: 'models', loadTimeoutMs: undefined })
export const model = gate.ensureModel('hf:user/repo/model.gguf', { onProgress: (progress: ModelProgress) => progress.done, signal: undefined })
// @ts-expect-error: as above
gate.ensureModel(1)
new NamedMutex('x').acquire({ timeoutMs: undefined, signal: undefined, onWait: undefined, detectDeadlock: undefined })
export const llama = gate.getLlama({ timeoutMs: undefined, onWait: undefined, module: undefined })
${hasLlama ? '// @ts-expect-error: with node-llama-cpp its types are there' : '// Without node-llama-cpp they are any.'}
llama.then((one) => one.noSuchThing)
export { lock, wrong }
`
}
