import assert from 'node:assert/strict'
import { basename, dirname, join, resolve } from 'node:path'
import { test } from 'node:test'
import { NamedMutex } from 'os-mutex'
import { canTake, LockFolder } from '../support/lock-folder.ts'

const isWindows = process.platform === 'win32'
const home = resolve('/home-of-no-file')
const fileOf = (name: string) => new NamedMutex(name, { directory: home }).path
// Where the files of Local names are.
const localHome = isWindows ? home : join(home, `.os-mutex-u${process.geteuid?.()}`)

const good = [
  'x',
  'Global\\x',
  'Local\\x',
  'Global',
  'Local',
  'global',
  'a/b',
  '/etc/passwd',
  'two words',
  ' ',
  '.',
  '..',
  '../x',
  'Global\\..',
  'con',
  'NUL',
  'aux.txt',
  'COM1',
  'Global\\LPT1',
  'Session',
  'Global\\Session',
  'Global\\Global',
  'Local\\Local',
  'Restricted',
  'AppContainerNamedObjects',
  'BaseNamedObjects',
  'a/Global/x',
  'Globalisation/x',
  'Global-x',
  'Global x',
  ' Global/x',
  'trailing ',
  'a:b*?"<>|',
  'new\nline',
  '\u0001\u007f',
  'ünïcödé',
  '日本語',
  '😀',
  '\ud800',
  '\udc00\ud800',
  '-rf',
  '%',
  '+',
  '=',
  '~',
  'trailing.',
]

const bad: [unknown, RegExp][] = [
  ['', /empty/],
  ['Global\\', /empty/],
  ['Local\\', /empty/],
  ['\\', /backslash/],
  ['a\\b', /backslash/],
  ['\\x', /backslash/],
  ['x\\', /backslash/],
  ['global\\x', /backslash/],
  ['GLOBAL\\x', /backslash/],
  ['local\\x', /backslash/],
  [' Global\\x', /backslash/],
  ['Session\\1\\x', /backslash/],
  ['AppContainerNamedObjects\\x', /backslash/],
  ['Restricted\\x', /backslash/],
  ['Global\\Session\\x', /backslash/],
  ['Global\\AppContainerNamedObjects\\x', /backslash/],
  ['\\BaseNamedObjects\\x', /backslash/],
  ['\\\\.\\pipe\\x', /backslash/],
  ['Global\\\\x', /backslash/],
  ['Global\\Local\\x', /backslash/],
  ['Global\\a\\b', /backslash/],
  ['Local\\..\\x', /backslash/],
  ['a\0b', /NUL/],
  ['x'.repeat(261), /261.*260/],
  [`Global\\${'x'.repeat(254)}`, /261.*260/],
  ...['Global/x', 'global/x', 'GLOBAL/x', 'Global:x', 'Global/', 'Global/Session/1/x'].map(
    (name): [unknown, RegExp] => [name, /"[/:]" after global is .* a backslash.* \{ scope: 'global' \}/i],
  ),
  ...['Local/x', 'local:x'].map((name): [unknown, RegExp] => [name, /backslash.* \{ scope: 'local' \}/]),
  // What JavaScript makes of 'Global\backup' and the like, with a single backslash.
  ['Global\backup', /backslash, which JavaScript swallowed.*'backup', \{ scope: 'global' \}/],
  ['global\next', /swallowed.*'next', \{ scope: 'global' \}/],
  ['Local\table', /swallowed.*'table', \{ scope: 'local' \}/],
  ...['\0x', '\fx', '\rx', '\vx', '\u0001x', '\u007fx', '\u0085x', '\u009fx'].map((end): [unknown, RegExp] => [
    `Global${end}`,
    /swallowed/,
  ]),
  ['Global\\Global/x', /backslash/],
  ['Local\\global:x', /backslash/],
  [undefined, /string/],
  [null, /string/],
  [42, /string/],
  [Symbol('x'), /string/],
  [['x'], /string/],
  [new String('x'), /string/],
  [Object.create(null), /string/],
]

for (const name of good) {
  test(`${JSON.stringify(name)} is a name, and its mutex works`, async () => {
    await using folder = new LockFolder()
    const mutex = folder.mutex(name)
    assert.equal(mutex.name, name)
    assert.equal(mutex.path, fileOf(name).replace(home, folder.path))
    const lock = mutex.tryAcquire()
    assert.ok(lock)
    assert.equal(lock.mutexName, name)
    assert.equal(folder.mutex(name).tryAcquire(), null)
    lock.release()
  })
}

test('whatever is no name is refused with a TypeError that has a code and says why', () => {
  for (const [name, why] of bad) {
    assert.throws(
      () => new NamedMutex(name as string, { directory: home }),
      (error: Error & { code: string }) => {
        assert.ok(error instanceof TypeError)
        assert.equal(error.code, 'ERR_MUTEX_INVALID_NAME')
        assert.match(error.message, why)
        assert.ok(error.message.length < 250, 'a long name is not told whole')
        return true
      },
    )
  }
})

test('the option scope says what a prefix says, and is the same mutex', async () => {
  await using folder = new LockFolder()
  for (const [scope, prefix] of [
    ['global', 'Global\\'],
    ['local', 'Local\\'],
  ] as const) {
    const [scoped, prefixed, both] = [
      folder.mutex('x', { scope }),
      folder.mutex(`${prefix}x`),
      folder.mutex(`${prefix}x`, { scope }),
    ]
    assert.deepEqual([scoped.name, scoped.scope], ['x', scope])
    assert.deepEqual([prefixed.scope, both.scope], [scope, scope])
    assert.deepEqual([scoped.path, both.path], [prefixed.path, prefixed.path])
    const lock = scoped.tryAcquire()
    assert.ok(lock)
    assert.equal(prefixed.tryAcquire(), null)
    assert.equal(both.tryAcquire(), null)
    assert.equal(
      canTake(folder.mutex('x', { scope: scope === 'global' ? 'local' : 'global' })),
      true,
      'of the other scope',
    )
    lock.release()
  }
  assert.equal(folder.mutex('x').scope, 'local')
  assert.equal(folder.mutex('x').path, folder.mutex('x', { scope: 'local' }).path)
})

test('a scope that contradicts the prefix is refused, and so is one that is none', () => {
  for (const [name, scope] of [
    ['Global\\x', 'local'],
    ['Local\\x', 'global'],
  ] as const) {
    assert.throws(() => new NamedMutex(name, { directory: home, scope }), {
      name: 'TypeError',
      code: 'ERR_MUTEX_INVALID_NAME',
      message: new RegExp(`prefix says ${scope === 'local' ? 'global' : 'local'}.*"scope" says ${scope}`),
    })
  }
  for (const scope of ['Global', '', 'machine', null, 1, {}]) {
    assert.throws(() => new NamedMutex('x', { directory: home, scope: scope as never }), {
      name: 'TypeError',
      code: 'ERR_MUTEX_INVALID_ARGUMENT',
      message: /"scope" must be 'global' or 'local'/,
    })
  }
})

test('"Global\\" counts as 7 units of the 260, also where the scope stands for it', () => {
  const make = (name: string, scope?: 'global' | 'local') =>
    new NamedMutex(name, { directory: home, ...(scope && { scope }) })
  for (const [units, scope] of [
    [253, 'global'],
    [260, 'local'],
    [260, undefined],
  ] as const) {
    assert.equal(make('x'.repeat(units), scope).name.length, units)
    assert.throws(() => make('x'.repeat(units + 1), scope), { code: 'ERR_MUTEX_INVALID_NAME', message: /261.*260/ })
  }
})

test('a name that looks like a prefix with a swallowed backslash warns once, unless its scope is said', async () => {
  // Warnings come on the next tick, those of the tests before as well.
  await new Promise((resolve) => setImmediate(resolve))
  const warnings: (Error & { code?: string })[] = []
  const listen = (warning: Error) => warnings.push(warning)
  process.on('warning', listen)
  try {
    // 'Global\App' as a careless program writes it.
    for (const name of ['GlobalApp', 'GlobalApp', 'Globalization']) new NamedMutex(name, { directory: home })
    for (const scope of ['global', 'local'] as const) new NamedMutex('GlobalScoped', { directory: home, scope })
    new NamedMutex('Global\\GlobalPrefixed', { directory: home })
    // JavaScript makes a control character of \b, so no swallowed backslash leads to the first of these.
    for (const name of ['Globalbackup', 'Global', 'Global_x', 'Global x', 'globalSettings', 'LocalStorage', 'AGlobalX'])
      new NamedMutex(name, { directory: home })
    await new Promise((resolve) => setImmediate(resolve))
  } finally {
    process.off('warning', listen)
  }
  const told = warnings.filter(({ code }) => code === 'OS_MUTEX_NAME_PREFIX')
  assert.deepEqual(
    told.map(({ name, message }) => [name, /^The mutex "(\w+)"/.exec(message)?.[1]]),
    [
      ['MutexWarning', 'GlobalApp'],
      ['MutexWarning', 'Globalization'],
    ],
  )
  assert.match(told[0]?.message ?? '', /"App" with \{ scope: 'global' \}.*\{ scope: 'local' \}/)
})

test('260 UTF-16 units are a name, prefix included, whatever they need as a file name', async () => {
  await using folder = new LockFolder()
  for (const unit of ['x', 'X', '/', '日', '\ud800', '\u{10000}'[1] ?? '']) {
    for (const prefix of ['', 'Global\\', 'Local\\']) {
      const name = prefix + unit.repeat(260 - prefix.length)
      assert.equal(name.length, 260)
      const lock = folder.mutex(name).tryAcquire()
      assert.ok(lock, 'the file system takes its file name')
      assert.equal(folder.mutex(name).tryAcquire(), null)
      lock.release()
    }
  }
})

/** How a file system that folds case and normalises Unicode would tell file names apart. */
const folded = (file: string) => file.normalize('NFKD').toLowerCase().toUpperCase()

test('every UTF-16 unit is a name of its own, also on a file system that folds case or normalises Unicode', () => {
  const files = new Set<string>()
  let names = 0
  for (let unit = 1; unit <= 0xffff; unit++) {
    if (unit === 0x5c) continue
    const char = String.fromCharCode(unit)
    // What comes before or after a unit matters to ASCII's alone, and to those that join what they stand beside.
    const isTriedBeside = unit < 0x600 || unit >= 0xd7f0
    for (const name of isTriedBeside ? [char, `ab${char}`, `${char}1`] : [`ab${char}`]) {
      names++
      files.add(folded(fileOf(`Global\\${name}`)))
    }
  }
  assert.equal(files.size, names)
})

test('names that look alike are different mutexes, and their files differ by more than case', () => {
  const names = [
    ...['A', 'a', '+a', '+A', '%0041', '%0061', '%', '%0025', 'ss', 'SS', '\u00df', 'fi', '\ufb01'],
    ...['\u00c5', '\u212b', 'A\u030a', 'a\u030a', 'I', 'i', '\u0131', '\u0130', '\u03a9', '\u2126', '\u00b5', '\u03bc'],
    ...['x', 'X', 'x~wait', 'x.lock', 'x ', ' x', 'x\u200b', 'x.', '.x'],
    ...['u0', 'u1000', 'U1000', '%00751000', 'u', 'ux', 'u1000x', '~1.0', '~', 'con', 'CON', 'Con', 'nul'],
    ...['\ud83d\ude00', '\ud83d', '\ude00', '\ude00\ud83d', '%d83d%de00', '\ufffd'],
    ...Array.from({ length: 10 }, (_, length) => 'x'.repeat(225 + length)),
    ...Array.from({ length: 10 }, (_, length) => 'X'.repeat(110 + length)),
    ...['\ud800', '\ud801', '\ufffd'].map((unit) => unit.repeat(200)),
    '='.repeat(3),
    `=${'0'.repeat(64)}`,
  ]
  assert.equal(new Set(names).size, names.length)
  for (const scope of ['Global\\', 'Local\\']) {
    assert.equal(new Set(names.map((name) => folded(fileOf(scope + name)))).size, names.length)
  }
})

test('a long name stands for its whole text: a change at either end makes another mutex', async () => {
  await using folder = new LockFolder()
  const name = `Global\\${'日本語'.repeat(80)}`
  const others = [`${name}x`, name.replace('日', '月'), `${name.slice(0, -1)}五`]
  const locks = [name, ...others].map((one) => folder.mutex(one).tryAcquire())
  assert.ok(locks.every((lock) => lock !== null))
  assert.equal(folder.mutex(name).tryAcquire(), null)
  for (const lock of locks) lock?.release()
})

test('no name leads out of the lock home, or to anything but a lock file in it', () => {
  for (const name of [
    ...good.filter((one) => !one.includes('\\')),
    '../../x',
    './x',
    '.os-mutex-x',
    'u0',
    `u${process.geteuid?.()}`,
    '~wait',
  ]) {
    const global = fileOf(`Global\\${name}`)
    assert.equal(dirname(global), home)
    assert.match(basename(global), /^\.os-mutex-[a-z0-9_.%+=-]+$/)
    assert.ok(!/[. ]$/.test(basename(global)), 'which Windows may drop')
    assert.notEqual(global, localHome)
    assert.ok(!/^\.os-mutex-u\d+$/.test(basename(global)), "some user's directory")
    const local = fileOf(`Local\\${name}`)
    assert.equal(dirname(local), localHome)
    if (isWindows) assert.match(basename(local), /^\.os-mutex-s\d+~/, 'which no Global name can have')
    assert.ok(basename(global).length <= 250)
  }
})

test("names that end like the mutex's own side files do not meet them", async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const held = folder.mutex('Global\\x').tryAcquire()
  const waiting = other.acquire('Global\\x') // makes the file of the waiting line
  await waiting.waiting
  for (const name of ['x~wait', 'x~', '~x', '~wait']) assert.ok(canTake(folder.mutex(`Global\\${name}`)))
  held?.release()
  await waiting.lock
})

test('an instance touches no file until it is used', async () => {
  const mutex = new NamedMutex('x', { directory: home })
  await assert.rejects(mutex.acquire(), { code: 'ERR_MUTEX_LOCK_FILE' })
})
