// What a mutex costs in descriptors: little while it is used, nothing when nobody has used it for some seconds.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { LockFolder } from '../support/lock-folder.ts'
import { resourcesOf } from '../support/resources.ts'
import { until } from '../support/until.ts'

const onLinux = { skip: process.platform !== 'linux' && 'descriptors are counted in /proc, and limited by a shell' }
const index = import.meta.resolve('os-mutex')

/** Runs a module in a process that may have so few descriptors. */
function runWithin(limit: number, code: string): string {
  const command = `ulimit -n ${limit} && exec "$0" --input-type=module -e "$1"`
  const { stdout, stderr } = spawnSync('/bin/sh', ['-c', command, process.execPath, code], { encoding: 'utf8' })
  return stdout.trim() || stderr
}

test('a mutex per key works with any number of keys', onLinux, async () => {
  await using folder = new LockFolder()
  const said = runWithin(
    256,
    `import { readdirSync } from 'node:fs'
     import { NamedMutex } from '${index}'
     let most = 0
     for (let key = 0; key < 1000; key++) {
       await new NamedMutex('order ' + key, { directory: '${folder.path}' }).withLock(async () => {})
       if (key % 10 === 0) most = Math.max(most, readdirSync('/proc/self/fd').length)
     }
     console.log(most < 200 ? 'well' : most)`,
  )
  assert.equal(said, 'well')
})

test('a process whose descriptors are all taken gets one from a mutex that nobody uses', onLinux, async () => {
  await using folder = new LockFolder()
  const said = runWithin(
    128,
    `import { closeSync, openSync } from 'node:fs'
     import { NamedMutex } from '${index}'
     const mutex = (name) => new NamedMutex(name, { directory: '${folder.path}' })
     const takeAll = () => { const taken = []; try { for (;;) taken.push(openSync('/dev/null')) } catch {} return taken }
     const held = mutex('held').tryAcquire()
     for (let n = 0; n < 8; n++) mutex('idle ' + n).tryAcquire().release()
     const taken = takeAll()
     const one = mutex('one').tryAcquire()
     for (const descriptor of taken.slice(0, 8)) closeSync(descriptor)
     for (let n = 8; n < 12; n++) mutex('idle ' + n).tryAcquire().release()
     takeAll()
     const waiting = mutex('one').acquire({ timeoutMs: 10 }).catch((error) => error.code)
     console.log([one !== null, held.released, await waiting].join())`,
  )
  assert.equal(said, 'true,false,ERR_MUTEX_TIMEOUT')
})

test(
  'mutexes that were held or awaited give all of their descriptors back within seconds of their last use',
  onLinux,
  async () => {
    await using folder = new LockFolder()
    const [party, other] = await Promise.all([folder.process(), folder.process()])
    const before = resourcesOf(party.pid).handles
    const names = Array.from({ length: 20 }, () => folder.uniqueName())
    for (const one of names) {
      const held = await other.acquire(one).lock
      const waiting = party.acquire(one)
      await waiting.waiting
      await held.release()
      await (await waiting.lock).release()
    }
    const held = await party.acquire('Global\\held').lock
    assert.ok(resourcesOf(party.pid).handles >= before + names.length, 'they are kept for the next use at first')
    // Those of the one that is held stay.
    await until('they are back', () => resourcesOf(party.pid).handles <= before + 3)
    assert.equal(await other.tryAcquire('Global\\held'), null)
    await held.release()
    assert.equal((await party.acquire(names[0] as string).lock).abandoned, false, 'and they work as before')
  },
)
