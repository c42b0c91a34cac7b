// Session 0 (services, scheduled tasks, CI agents) keeps its own names among the machine's: there "Local" and "Global"
// are one mutex of the kernel. So they are one mutex here, with one record and one place in the line. The kernel itself
// is not asked: which session a test runs in can't be chosen.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { locateInSession, parseMutexName } from '../support/mutex-internals.ts'

const homes = [
  { directory: 'C:\\ProgramData\\os-mutex', isDefault: true },
  { directory: 'D:\\locks', isDefault: false },
]

/** What the kernel finds by a name: in session 0 a name without a prefix is the machine's, elsewhere the session's own. */
function kernelObject(objectName: string, session: number): string {
  const isGlobal = session === 0 || objectName.startsWith('Global\\')
  return `${isGlobal ? 'machine' : `session ${session}`}: ${objectName.replace(/^Global\\/, '')}`
}

function located(name: string, home: (typeof homes)[number], session: number) {
  const location = locateInSession(parseMutexName(name), home, session)
  return { ...location, object: kernelObject(location.objectName, session) }
}

for (const home of homes) {
  const where = home.isDefault ? 'the default lock home' : 'a chosen lock home'

  test(`two names in ${where} have one record if and only if they are one object of the kernel, in all sessions`, () => {
    const all = ['x', 'Local\\x', 'Global\\x', 'Global\\y', 'Session', 'Global\\Session'].flatMap((name) =>
      [0, 1, 7].map((session) => ({ name, session, ...located(name, home, session) })),
    )
    for (const a of all) {
      for (const b of all) {
        const what = `${a.name} in session ${a.session}, ${b.name} in session ${b.session}`
        assert.equal(a.path === b.path, a.object === b.object, what)
      }
    }
  })

  test(`in session 0 "Local" and "Global" names are one mutex in ${where}, and elsewhere two`, () => {
    const [local, global] = [located('Local\\x', home, 0), located('Global\\x', home, 0)]
    assert.deepEqual(local, global)
    assert.equal(global.path, located('Global\\x', home, 7).path, 'and it is that of all other sessions')
    assert.notEqual(located('Local\\x', home, 7).path, located('Global\\x', home, 7).path)
  })

  test(`the longest names have an object name that Windows takes in ${where}`, () => {
    for (const name of ['n'.repeat(260), `Local\\${'n'.repeat(254)}`, `Global\\${'n'.repeat(253)}`]) {
      for (const session of [0, 1]) assert.ok(located(name, home, session).objectName.length <= 260)
    }
  })
}
