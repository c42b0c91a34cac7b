// The permission model of Node has no fsync, fchmod or fchown of a descriptor, and shows only what is allowed.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { GateFolder } from '../support/gate-folder.ts'
import { ModelServer } from '../support/model-server.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

const root = dirname(dirname(fileURLToPath(import.meta.resolve('os-mutex'))))
const flags = process.allowedNodeEnvironmentFlags
const permission = flags.has('--permission') ? '--permission' : '--experimental-permission'
const onlyNode = { skip: process.versions.bun || 'Deno' in globalThis ? 'a flag of Node' : false }

/** Node 26 has none of a handle either. */
const hasSync = Number(process.versions.node.split('.')[0]) < 26

test('under the permission model a model is downloaded with all its locks, and nothing warns', onlyNode, async () => {
  await using folder = await GateFolder.create()
  await using server = await ModelServer.start()
  const model = makeTinyGguf({ path: join(folder.path, 'source.gguf') })
  const program = join(folder.path, 'main.mjs')
  writeFileSync(
    program,
    `import { LlamaModelGate } from ${JSON.stringify(import.meta.resolve('os-mutex/llama'))}
     process.on('warning', ({ name, message }) => { if (!/Experimental|Security/.test(name)) console.log(message) })
     const gate = new LlamaModelGate(${JSON.stringify(folder.options)})
     const file = await gate.ensureModel(${JSON.stringify(server.serve('/m.gguf', model.path))}).catch((error) => error)
     console.log(file.sha256 ?? file.message)`,
  )
  const allowed = ['--allow-addons', '--allow-worker', ...(flags.has('--allow-net') ? ['--allow-net'] : [])]
  const places = [`--allow-fs-read=${root}`, `--allow-fs-read=${folder.path}`, `--allow-fs-write=${folder.path}`]
  const { stdout } = await promisify(execFile)(process.execPath, [permission, ...allowed, ...places, program])
  if (!hasSync)
    return assert.match(stdout, /^Failed syncing .*--permission forbids it.* Node 26 syncs nothing under it\n$/)
  assert.equal(stdout.trim(), model.sha256)
  assert.deepEqual(readdirSync(folder.models).sort(), ['.locks', '.m.gguf.os-mutex.json', 'm.gguf'])
})
