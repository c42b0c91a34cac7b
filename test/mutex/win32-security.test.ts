// Whoever makes a mutex, its record or the lock home first must not lock the other users of the machine out.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { test } from 'node:test'
import { LockFolder } from '../support/lock-folder.ts'
import { askForeign, onWindows } from '../support/win32/foreign.ts'
import * as security from '../support/win32/security.ts'

const everyone = 'WD'
const takesOver = security.DELETE | security.WRITE_DAC | security.WRITE_OWNER

for (const prefix of ['Global\\', 'Local\\']) {
  test(
    `all users and sandboxed apps may take a ${prefix} mutex of ours, and nobody else may change who may`,
    onWindows,
    async () => {
      await using folder = new LockFolder()
      const name = `${prefix}os-mutex-test ${randomUUID()}`
      const party = await folder.processAtHome()
      await party.acquire(name).lock
      const sddl = askForeign('mutex-security', name)
      const take = security.SYNCHRONIZE | security.MUTEX_MODIFY_STATE
      for (const trustee of [everyone, 'AC']) assert.equal(security.allowed(sddl, trustee), take, sddl)
      for (const trustee of ['SY', 'BA']) assert.equal(security.allowed(sddl, trustee) & take, take, sddl)
    },
  )

  test(`a ${prefix} mutex of ours gives its maker's user all that CreateMutex asks for`, onWindows, async () => {
    await using folder = new LockFolder()
    const name = `${prefix}os-mutex-test ${randomUUID()}`
    const party = await folder.processAtHome()
    await party.acquire(name).lock
    // By name, and not as an administrator or the object's owner: a plain process of an elevated maker's user is
    // neither.
    const sddl = askForeign('mutex-security', name)
    assert.equal(security.allowed(sddl, askForeign('user')), security.MUTEX_ALL_ACCESS, sddl)
    assert.equal(askForeign('open', name, security.MUTEX_ALL_ACCESS.toString(16)), 'opened')
  })
}

test('all users may rewrite a record, and only its maker may remove it', security.withFileSecurity(), async () => {
  await using folder = new LockFolder()
  const party = await folder.processAtHome()
  await party.acquire('Global\\x').lock
  const home = join(folder.path, 'os-mutex')
  const file = security.allowed(askForeign('file-security', join(home, '.os-mutex-x')), everyone)
  const readWrite = security.FILE_READ_DATA | security.FILE_WRITE_DATA
  assert.equal(file & readWrite, readWrite)
  assert.equal(file & takesOver, 0)
  const directory = security.allowed(askForeign('file-security', home), everyone)
  assert.equal(directory & security.FILE_ADD_FILE, security.FILE_ADD_FILE)
  assert.equal(directory & (takesOver | security.FILE_DELETE_CHILD), 0)
})
