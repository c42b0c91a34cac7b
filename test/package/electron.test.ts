// What of Electron can be shown without Electron: it is Node in an executable of another name. (docs/electron.md says what else.)
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { LockFolder } from '../support/lock-folder.ts'

const isNode = process.versions.bun === undefined && process.versions.deno === undefined

const program = `
  import { NamedMutex } from ${JSON.stringify(import.meta.resolve('os-mutex'))}
  const mutex = new NamedMutex('renamed', { directory: process.argv[2] })
  const lock = await mutex.acquire({ timeoutMs: 60_000 })
  console.log(JSON.stringify({ executable: process.execPath, acquired: !lock.released }))
  lock.release()
`

// On Windows an addon that imports Node-API from "node.exe" by name does not load here.
for (const environment of [{}, { ELECTRON_RUN_AS_NODE: '1' }]) {
  test(`the addon loads in an executable that is not called node (${JSON.stringify(environment)})`, {
    skip:
      process.env.OS_MUTEX_TEST_EMULATOR === 'qemu'
        ? 'the executable that tests start is a script that starts the emulator'
        : isNode
          ? false
          : 'Electron is Node in another executable: other runtimes show nothing of it',
  }, async () => {
    await using folder = new LockFolder()
    const executable = join(folder.path, process.platform === 'win32' ? 'electron.exe' : 'electron')
    copyFileSync(process.execPath, executable)
    const script = join(folder.path, 'main.mjs')
    writeFileSync(script, program)
    const { status, stdout, stderr, error } = spawnSync(executable, [script, folder.path], {
      encoding: 'utf8',
      env: { ...process.env, ...environment },
    })
    assert.equal(error, undefined)
    assert.equal(status, 0, stderr)
    const told = JSON.parse(stdout) as { executable: string; acquired: boolean }
    assert.equal(told.acquired, true)
    assert.match(told.executable, /electron(\.exe)?$/)
  })
}
