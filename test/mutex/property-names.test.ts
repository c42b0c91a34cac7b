// Whatever the names are: equal ones are one mutex, different ones never meet, and what is no name is refused. names.test.ts has the
// names that are known to be odd.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import path from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { type MutexLock, NamedMutex } from 'os-mutex'
import { LockFolder } from '../support/lock-folder.ts'
import { locateInSession, parseMutexName, posixPlatform } from '../support/mutex-internals.ts'
import { runs } from '../support/properties.ts'

const homes = { default: true, other: false }
type Locate = typeof posixPlatform.locate
const session = 1
const inSession: Locate = (name, home) => locateInSession(name, home, session)
const platforms = { posix: posixPlatform, win32: { locate: inSession } }

// --- What names are, by the page of CreateMutexExW ------------------------------------------------------------------

/** Two names are one mutex when this is the same; `undefined` is no name. */
function identityOf(name: string): string | undefined {
  const [, prefix, base = ''] = /^(Global\\|Local\\)?(.*)$/s.exec(name) ?? []
  if (name.length > 260 || base === '' || /[\\\0]/.test(base)) return undefined
  // A mistyped backslash, which only Win32 would take for a name.
  if (/^(global|local)[/:\p{Cc}]/iu.test(base)) return undefined
  return `${prefix === 'Global\\' ? 'Global' : 'Local'}\\${base}`
}

// --- Names of all kinds ---------------------------------------------------------------------------------------------

const telling = [...'aAbBzZ019_-.+%=~/: uU', 'ß', 'ẞ', 'ı', 'İ', 'ſ', 'K', 'é', 'e\u0301', 'Å', 'ﬁ', 'µ', 'μ']
const character = fc.oneof(
  { arbitrary: fc.constantFrom(...telling), weight: 6 },
  { arbitrary: fc.nat(0xffff).map((unit) => String.fromCharCode(unit)), weight: 2 },
  { arbitrary: fc.constantFrom('\\', '\0', '\ud83d', '\ude00'), weight: 1 },
)
const legalCharacter = character.filter((one) => !/[\\\0]/.test(one))
const texts = (one: fc.Arbitrary<string>) =>
  fc.oneof(
    fc.string({ unit: one, maxLength: 10 }),
    // Around the lengths at which an encoded name becomes a hash, and a name too long.
    fc
      .tuple(
        fc.constantFrom('x', 'X', '日', '\ud800'),
        fc.integer({ min: 30, max: 265 }),
        fc.string({ unit: one, maxLength: 3 }),
      )
      .map(([unit, count, end]) => unit.repeat(count) + end),
    fc
      .tuple(
        fc.constantFrom('Global', 'LOCAL', 'global'),
        fc.constantFrom('/', ':', '\b', '\n', '\x85', '-', ''),
        fc.string({ unit: one }),
      )
      .map((parts) => parts.join('')),
    fc.constantFrom('Global', 'LOCAL', 'Session', 'u0', 'u1000', `=${'0'.repeat(64)}`, `os-mutex-${'a'.repeat(64)}`),
  )
const prefix = fc.constantFrom('', 'Global\\', 'Local\\')
const anyName = fc
  .tuple(fc.oneof({ arbitrary: prefix, weight: 6 }, fc.constantFrom('global\\', 'LOCAL\\', '\\')), texts(character))
  .map((parts) => parts.join(''))
const legalName = fc
  .tuple(prefix, texts(legalCharacter))
  .map((parts) => parts.join(''))
  .filter((name) => identityOf(name) !== undefined)

const sha256 = (text: string) => createHash('sha256').update(text, 'utf16le').digest('hex')

/** A character as a mapping may write it. */
function escaped(char: string): string[] {
  const unit = char.charCodeAt(0).toString(16).padStart(4, '0')
  return [`%${unit}`, `+${char.toLowerCase()}`, char.toLowerCase(), char.toUpperCase(), char.normalize('NFKD')]
}

/** Names that a careless mapping could take for `name`; one of them is the same mutex in other words. */
function lookAlikes(name: string, at: number): string[] {
  const [, prefix = '', base = ''] = /^(Global\\|Local\\)?(.*)$/s.exec(name) ?? []
  const index = at % base.length
  const replaced = escaped(base.charAt(index)).map((by) => base.slice(0, index) + by + base.slice(index + 1))
  const spelt = Object.values(platforms).flatMap((platform) => {
    const { path: file, objectName } = platform.locate(parseMutexName(name), { directory: '/', isDefault: false })
    const fileName = file.slice(file.lastIndexOf('.os-mutex-'))
    return [fileName, fileName.replace('.os-mutex-', ''), objectName.replace('Global\\', '')]
  })
  const forms = ['NFC', 'NFD', 'NFKC', 'NFKD'].map((form) => base.normalize(form))
  // Lone surrogates have one spelling in UTF-8.
  const utf8 = Buffer.from(base).toString()
  const ends = ['~wait', '.', ' ', '%002e', 'x'].map((end) => base + end)
  const hashes = [`=${sha256(base)}`, `os-mutex-${sha256(`\0${base}`)}`]
  const others = ['', 'Global\\', 'Local\\'].map((other) => other + base)
  const bases = [
    ...replaced,
    ...spelt,
    ...forms,
    utf8,
    ...ends,
    ...hashes,
    base.slice(0, -1),
    base.slice(1),
    ` ${base}`,
  ]
  return [...others, ...bases.map((one) => prefix + one)].filter((one) => identityOf(one) !== undefined)
}

const pair = fc.oneof(
  fc.tuple(legalName, legalName),
  fc.tuple(legalName, fc.nat(), fc.nat()).map(([name, at, which]): [string, string] => {
    const alike = lookAlikes(name, at)
    return [name, alike[which % alike.length] ?? name]
  }),
)

// --- The properties -------------------------------------------------------------------------------------------------

/** How a file system that folds case and normalises Unicode would tell file names apart. */
const folded = (file: string) => file.normalize('NFKD').toLowerCase().toUpperCase()

for (const [system, platform] of Object.entries(platforms)) {
  for (const [home, isDefault] of Object.entries(homes)) {
    test(`on ${system}, in the ${home} lock home, two names have one place just when they are one mutex`, () => {
      const directory = system === 'win32' ? 'C:\\Home' : path.resolve('/home-of-no-file')
      const placeOf = (name: string) => platform.locate(parseMutexName(name), { directory, isDefault })
      fc.assert(
        fc.property(pair, ([one, other]) => {
          const isSame = identityOf(one) === identityOf(other)
          const [place, otherPlace] = [placeOf(one), placeOf(other)]
          assert.equal(folded(place.path) === folded(otherPlace.path), isSame, 'the file')
          assert.equal(place.ownDirectory === otherPlace.path, false, 'a file where a directory belongs')
          if (system === 'win32') assert.equal(place.objectName === otherPlace.objectName, isSame, 'the object')
        }),
        runs(3_000),
      )
    })

    test(`on ${system}, in the ${home} lock home, every name has a file name and an object name that the system takes`, () => {
      const directory = system === 'win32' ? 'C:\\Home' : path.resolve('/home-of-no-file')
      fc.assert(
        fc.property(legalName, (name) => {
          const { path: file, objectName } = platform.locate(parseMutexName(name), { directory, isDefault })
          const { base } = system === 'win32' ? path.win32.parse(file) : path.parse(file)
          // With the longest end that the addon gives it.
          assert.ok(Buffer.byteLength(`${base}~wait`) <= 255, base)
          assert.match(base, /^\.os-mutex-[a-z0-9_.%+=~-]*[a-z0-9_%+=~-]$/)
          assert.ok(objectName.length <= 260, objectName)
          const rest = objectName.replace(/^Global\\/, '')
          assert.ok(!rest.includes('\\'), objectName)
          assert.doesNotMatch(rest, /^(global|local|session|restricted|appcontainernamedobjects)$/i, "Windows' own")
        }),
        runs(2_000),
      )
    })
  }
}

test('on win32, no name of one lock home is the object of any name of another', () => {
  const places = [
    { directory: 'C:\\Home', isDefault: true },
    { directory: 'C:\\Home', isDefault: false },
    { directory: 'D:\\Home', isDefault: false },
  ]
  const objectNameOf = (name: string, home: (typeof places)[number]) => inSession(parseMutexName(name), home).objectName
  fc.assert(
    fc.property(pair, fc.shuffledSubarray(places, { minLength: 2 }), ([one, other], [home, otherHome]) => {
      assert.ok(home && otherHome)
      const theirs = objectNameOf(other, otherHome)
      assert.notEqual(objectNameOf(one, home), theirs)
      assert.notEqual(objectNameOf(theirs, home), theirs, 'who knows the name by which the kernel knows it')
    }),
    runs(1_000),
  )
})

test('a text is a name, or is refused with a TypeError that has a code: nothing else happens', () => {
  const directory = path.resolve('/home-of-no-file')
  fc.assert(
    fc.property(fc.oneof({ arbitrary: anyName, weight: 3 }, fc.string({ unit: 'binary' }), fc.anything()), (name) => {
      const make = () => new NamedMutex(name as string, { directory })
      if (typeof name === 'string' && identityOf(name) !== undefined) assert.equal(make().name, name)
      else assert.throws(make, { name: 'TypeError', code: 'ERR_MUTEX_INVALID_NAME' })
    }),
    runs(300),
  )
})

test('whatever the name is, the scope global accepts it just when its prefix does, and means the same mutex', () => {
  const outcome = (name: string, scope?: string) => {
    try {
      const { scope: parsed, base } = parseMutexName(name, scope)
      return `${parsed} ${base}`
    } catch (error) {
      return (error as { code?: string }).code
    }
  }
  fc.assert(
    fc.property(fc.oneof(texts(character), anyName), (name) => {
      const isPrefixed = /^(Global|Local)\\/.test(name)
      if (isPrefixed) assert.equal(outcome(name, name.startsWith('G') ? 'global' : 'local'), outcome(name))
      else assert.equal(outcome(name, 'global'), outcome(`Global\\${name}`))
      assert.equal(outcome(name, 'local'), name.startsWith('Global\\') ? 'ERR_MUTEX_INVALID_NAME' : outcome(name))
    }),
    runs(3_000),
  )
})

test('in the kernel, each of many names has a lock of its own, and each spelling of one the same lock', async () => {
  await using folder = new LockFolder()
  const names = fc
    .array(fc.tuple(legalName, fc.nat()), { minLength: 1, maxLength: 5 })
    .map((all) =>
      all.flatMap(([name, at]) => [name, ...lookAlikes(name, at).filter((_, index) => index % 5 === at % 5)]),
    )
  fc.assert(
    fc.property(names, (all) => {
      const mutexes = all.map((name) => folder.mutex(name))
      const locks = new Map<string | undefined, MutexLock>()
      try {
        for (const mutex of mutexes) {
          const identity = identityOf(mutex.name)
          const lock = mutex.tryAcquire()
          assert.equal(lock === null, locks.has(identity), JSON.stringify(mutex.name))
          if (lock !== null) locks.set(identity, lock)
        }
      } finally {
        for (const lock of locks.values()) lock.release()
        for (const mutex of mutexes) mutex.close()
      }
    }),
    runs(60),
  )
})
