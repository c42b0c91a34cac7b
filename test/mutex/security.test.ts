// What a second, unprivileged user of the machine can do to those who share `Global\` mutexes with him: SECURITY.md says what is
// defended, and here somebody tries. Names that lead elsewhere are in names.test.ts and download/source.test.ts.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { LlamaModelGate } from 'os-mutex/llama'
import { openDownloadFolder } from '../support/download-folder.ts'
import { lockFileBytes } from '../support/lock-file-bytes.ts'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'
import { secondUser, withSecondUser } from '../support/second-user.ts'

const name = 'Global\\guarded'
const attempts = ['acquire', 'acquire at once', 'tryAcquire', 'acquireSync', 'query'] as const

interface Attack {
  readonly folder: LockFolder
  readonly attacker: Party
  /** The mutex's lock file. */
  readonly path: string
  /** Root's own, in the same directory. */
  readonly precious: string
}

/** A directory like /tmp, with a file of root's in it and somebody who may add to it. */
async function attacked(folder: LockFolder): Promise<Attack> {
  folder.openToAll()
  const precious = join(folder.path, 'precious')
  writeFileSync(precious, 'precious', { mode: 0o600 })
  utimesSync(precious, 1, 1)
  return { folder, attacker: await folder.process({ uid: secondUser }), path: folder.fileOf(name), precious }
}

function assertUntouched({ precious }: Attack): void {
  const { uid, mode, mtimeMs, nlink } = statSync(precious)
  assert.deepEqual(
    [readFileSync(precious, 'utf8'), uid, mode & 0o7777, mtimeMs, nlink],
    ['precious', 0, 0o600, 1000, 1],
  )
}

/** How root's use of the mutex ends: `free` (it got it), or an error's code. Never hangs. */
async function outcomes({ folder }: Attack, own = name): Promise<string[]> {
  const mutex = folder.mutex(own)
  const uses: Record<(typeof attempts)[number], () => unknown> = {
    acquire: async () => (await mutex.acquire({ timeoutMs: 20_000 })).release(),
    'acquire at once': async () => (await mutex.acquire({ timeoutMs: 0 })).release(),
    tryAcquire: () => mutex.tryAcquire()?.release(),
    acquireSync: () => mutex.acquireSync({ timeoutMs: 20_000 }).release(),
    query: () => mutex.query(),
  }
  const ends: string[] = []
  for (const attempt of attempts) {
    try {
      await uses[attempt]()
      ends.push('free')
    } catch (error) {
      ends.push(String((error as { code?: string }).code))
    }
  }
  mutex.close()
  return ends
}

/** Runs in the attacker's process. */
type Plant = Parameters<typeof Party.prototype.run<[path: string, precious: string], unknown>>[0]

const planted: Record<string, Plant> = {
  "a symbolic link to root's file": ({ fs }, path, precious) => fs.symlinkSync(precious, path),
  'a symbolic link to a device': ({ fs }, path) => fs.symlinkSync('/dev/zero', path),
  'a dangling symbolic link': ({ fs }, path, precious) => fs.symlinkSync(`${precious}-new`, path),
  'a FIFO': ({ execFileSync }, path) => void execFileSync('mkfifo', [path]),
  'a directory': ({ fs }, path) => fs.mkdirSync(path),
  'a hard link': ({ fs }, path) => {
    fs.writeFileSync(`${path}-own`, '')
    fs.linkSync(`${path}-own`, path)
  },
}
for (const [what, plant] of Object.entries(planted)) {
  test(
    `${what} that another user planted is refused to root, and nothing is followed, cut or made`,
    withSecondUser,
    async () => {
      await using folder = new LockFolder()
      const attack = await attacked(folder)
      await attack.attacker.run(plant, attack.path, attack.precious)
      const before = readdirSync(folder.path).sort()
      const { uid, mode } = lstatSync(attack.path)
      assert.deepEqual(
        await outcomes(attack),
        attempts.map(() => 'ERR_MUTEX_LOCK_FILE'),
      )
      assertUntouched(attack)
      assert.deepEqual(readdirSync(folder.path).sort(), before)
      assert.deepEqual([lstatSync(attack.path).uid, lstatSync(attack.path).mode], [uid, mode], 'it was not taken over')
      assert.deepEqual(
        await outcomes(attack, 'Global\\another'),
        attempts.map(() => 'free'),
      )
    },
  )
}

for (const [what, mode] of [
  ['in use', 0o666],
  ['that was just made, and is empty', 0o666],
] as const) {
  test(`a hard link that another user gives to a lock file ${what} locks nobody out`, withSecondUser, async () => {
    await using folder = new LockFolder().openToAll()
    const attacker = await folder.process({ uid: secondUser })
    const [mutex, other] = [folder.mutex('Global\\linked'), await folder.process()]
    const held = what === 'in use' ? mutex.tryAcquire() : null
    if (held === null) writeFileSync(mutex.path, '', { mode })
    chmodSync(mutex.path, mode)
    await attacker.run(({ fs, directory }, path) => {
      fs.mkdirSync(`${directory}/hidden`, { mode: 0o700 })
      fs.linkSync(path, `${directory}/hidden/link`)
    }, mutex.path)
    if (held !== null) assert.equal(await other.tryAcquire('Global\\linked'), null)
    held?.release()
    const lock = await other.tryAcquire('Global\\linked')
    assert.equal(lock?.abandoned, false)
    assert.equal(mutex.tryAcquire(), null)
    await lock?.release()
  })
}

/** The README's lines for a shell, for this lock file; runs `command` under the lock, or ends with 1 at once if it is taken. */
function recipe(path: string, command: string): string {
  const readme = readFileSync(join(dirname(fileURLToPath(import.meta.resolve('os-mutex'))), '../README.md'), 'utf8')
  const lines = /```sh\n(lock=[^`]*)```/.exec(readme)?.[1] ?? assert.fail('the README has no such lines')
  return lines.replace(/lock=\S+/, `lock='${path}'`).replace('flock 9 && ./backup.sh', `flock -n 9 && ${command}`)
}

test(
  "the README's lines for a shell share a global mutex between users, whoever comes first and whatever the umask",
  withSecondUser,
  async () => {
    for (const first of ['the shell', 'the mutex'] as const) {
      await using folder = new LockFolder().openToAll()
      const [mutex, owner] = [folder.mutex('Global\\recipe'), await folder.process()]
      const shell = (command: string) =>
        spawnSync('bash', ['-c', `umask 077\n${recipe(mutex.path, command)}`], {
          uid: secondUser,
          gid: secondUser,
          encoding: 'utf8',
        })
      if (first === 'the shell')
        assert.deepEqual([shell('echo alone').stdout, statSync(mutex.path).mode & 0o777], ['alone\n', 0o666])
      await owner.acquire('Global\\recipe', { purpose: 'to die' }).lock
      assert.equal(shell('echo alone').stdout, '', 'it excludes the shell')
      assert.equal(mutex.query().owner?.purpose, 'to die', 'the record is whole')
      await owner.kill()
      const lock = mutex.tryAcquire()
      assert.deepEqual([lock?.abandoned, lock?.previousOwner?.purpose], [true, 'to die'])
      lock?.release()
      const busy = spawn('bash', ['-c', recipe(mutex.path, 'echo in && read _')], { uid: secondUser, gid: secondUser })
      await once(busy.stdout, 'data')
      assert.equal(mutex.tryAcquire(), null, 'the shell excludes the mutex')
      busy.stdin.end('\n')
      await once(busy, 'exit')
      assert.equal((await folder.nextOwner('Global\\recipe')).abandoned, false)
    }
  },
)

const contents: Record<string, string | Buffer> = {
  nothing: '',
  'a huge record': 'x'.repeat(1_000_000),
  'a forged record': lockFileBytes('held', JSON.stringify({ pid: 1, app: '\u001b[2J', purpose: '\u202egnp.exe' })),
  'random bytes': Buffer.from(Array.from({ length: 5_000 }, (_, index) => (index * 7919) % 256)),
}
for (const [what, content] of Object.entries(contents)) {
  test(`a lock file of another user's with ${what} in it is a lock file`, withSecondUser, async () => {
    await using folder = new LockFolder()
    const attack = await attacked(folder)
    const write: Plant = ({ fs }, path, content) => {
      fs.writeFileSync(path, content, 'latin1')
      fs.chmodSync(path, 0o666)
    }
    await attack.attacker.run(write, attack.path, content.toString('latin1'))
    assert.deepEqual(
      await outcomes(attack),
      attempts.map(() => 'free'),
    )
    assert.equal(statSync(attack.path).uid, secondUser)
  })
}

test(
  'a lock file that changes between link, FIFO and file under the hands of root is never followed, and never hangs',
  withSecondUser,
  async () => {
    await using folder = new LockFolder()
    const attack = await attacked(folder)
    // Each thing lies ready and is renamed into place, so that the name is never free. Runs in the event loop's own time, until it is told to end.
    await attack.attacker.run(
      ({ fs, execFileSync, kept }, path, precious) => {
        const make = [
          (draft: string) => fs.symlinkSync(precious, draft),
          (draft: string) => fs.writeFileSync(draft, '', { mode: 0o666 }),
          (draft: string) => fs.linkSync(`${path}-fifo`, draft),
        ]
        execFileSync('mkfifo', [`${path}-fifo`])
        const state = { isOver: false, swaps: 0 }
        kept.push(state)
        const swap = () => {
          for (let round = 0; round < 50; round++) {
            const draft = `${path}-draft`
            make[state.swaps++ % make.length]?.(draft)
            fs.renameSync(draft, path)
          }
          if (!state.isOver) setImmediate(swap)
        }
        swap()
      },
      attack.path,
      attack.precious,
    )
    const mutex = folder.mutex(name)
    const seen = { free: 0, refused: 0 }
    for (let round = 0; round < 3_000; round++) {
      try {
        const lock = round % 2 === 0 ? mutex.tryAcquire() : await mutex.acquire({ timeoutMs: 20_000 })
        lock?.release()
        seen.free++
      } catch (error) {
        const { code } = error as { code?: string }
        assert.ok(
          code === 'ERR_MUTEX_LOCK_FILE' || code === 'ERR_MUTEX_ACCESS_DENIED' || code === 'ERR_MUTEX_SYSTEM',
          String(error),
        )
        seen.refused++
      }
    }
    const swaps = await attack.attacker.run(({ kept }) => {
      const state = kept[0] as { isOver: boolean; swaps: number }
      state.isOver = true
      return state.swaps
    })
    assert.ok(swaps > 100 && seen.refused > 0, `${swaps} swaps, ${JSON.stringify(seen)}`)
    assertUntouched(attack)
  },
)

test(
  "a directory that another user made in the place of one's Local directory is refused, and what is in it tells nothing",
  withSecondUser,
  async () => {
    await using folder = new LockFolder()
    const attack = await attacked(folder)
    const path = folder.fileOf('Local\\mine')
    await attack.attacker.run(
      ({ fs }, path, record) => {
        fs.mkdirSync(path.slice(0, path.lastIndexOf('/')), { mode: 0o777 })
        fs.writeFileSync(path, record, { mode: 0o666 })
      },
      path,
      lockFileBytes('held', JSON.stringify({ pid: 1, purpose: 'a lie' })).toString(),
    )
    assert.deepEqual(
      await outcomes(attack, 'Local\\mine'),
      attempts.map(() => 'ERR_MUTEX_ACCESS_DENIED'),
    )
    assert.deepEqual(readdirSync(dirname(path)), [basename(path)])
    assert.equal(statSync(dirname(path)).uid, secondUser)
  },
)

test(
  'what another user holds can be waited for, and the wait be given up: who it is, is told without what would steer a terminal',
  withSecondUser,
  async () => {
    await using folder = new LockFolder()
    const { attacker } = await attacked(folder)
    const lock = await attacker.acquire(name, { purpose: '\u001b]0;owned\u0007 \u202egnp.exe' }).lock
    await assert.rejects(folder.mutex(name).acquire({ timeoutMs: 1 }), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'ERR_MUTEX_TIMEOUT')
      assert.ok(error.message.includes(`pid ${attacker.pid}`), error.message)
      assert.doesNotMatch(error.message, /[\p{Cc}\p{Bidi_Control}]/u)
      return true
    })
    await lock.release()
    ;(await folder.mutex(name).acquire()).release()
  },
)

/** Debian's and Ubuntu's own setting where systemd sets it: nobody may open another's file with O_CREAT in such a directory. */
function protectedRegular(): string {
  return readFileSync('/proc/sys/fs/protected_regular', 'utf8').trim()
}

test(
  'users share a mutex also where the kernel keeps them from making files over those of others',
  withSecondUser,
  async (t) => {
    if (process.platform !== 'linux' || protectedRegular() !== '2') return t.skip('fs.protected_regular is not 2 here')
    await using folder = new LockFolder()
    const { attacker, path } = await attacked(folder)
    await (await attacker.acquire(name).lock).release()
    assert.throws(() => writeFileSync(path, ''), { code: 'EACCES' }, 'the setting works')
    ;(await folder.mutex(name).acquire()).release()
    ;(await folder.mutex('Global\\of root').acquire()).release()
    await (await attacker.acquire('Global\\of root').lock).release()
  },
)

test('a server cannot choose where a model goes: neither Content-Disposition nor a redirect names the file', async (t) => {
  const { server, models, payload } = await openDownloadFolder(t)
  const locks = join(dirname(models), 'locks')
  mkdirSync(locks)
  const gate = new LlamaModelGate({ modelsDirectory: models, mutexDirectory: locks, prefix: 'security' })
  const headers = {
    'content-disposition': 'attachment; filename="../../a.gguf"; filename*=UTF-8\'\'..%2f..%2fa.gguf',
  }
  const elsewhere = server.serve('/..%2f..%2fevil.gguf', { file: payload(64 * 1024).path, headers })
  const url = server.serve('/good.gguf', { file: payload(64 * 1024).path, headers })
  server.fault('/good.gguf', { kind: 'redirect', to: elsewhere })
  const model = await gate.ensureModel(url)
  assert.equal(model.path, join(models, 'good.gguf'))
  assert.deepEqual(readdirSync(models, { recursive: true }).sort(), [
    '.good.gguf.os-mutex.json',
    '.locks',
    join('.locks', 'good.gguf'),
    'good.gguf',
  ])
  assert.deepEqual(
    readdirSync(dirname(models)).filter((name) => name.endsWith('.gguf')),
    [],
  )
  await assert.rejects(gate.ensureModel(elsewhere), { code: 'ERR_MODEL_INVALID_SOURCE' })
})
