// Rows of the table of faults: containers that share a folder, and machines that share a file server. See support/faults.ts.
import assert from 'node:assert/strict'
import { mkdirSync, statSync, utimesSync } from 'node:fs'
import type { TestContext } from 'node:test'
import { Container, type ContainerOptions } from '../../support/containers.ts'
import { partialsIn } from '../../support/download-folder.ts'
import { pruneFolder } from '../../support/download-internals.ts'
import { half } from '../../support/fault-parts.ts'
import { type FaultJob, FaultProcess } from '../../support/fault-process.ts'
import { type Ending, type FaultScene, fault, path } from '../../support/faults.ts'
import { withNamespaces } from '../../support/namespaces.ts'
import type { ProcessOptions } from '../../support/party.ts'
import { TwoHosts, withTwoHosts } from '../../support/two-hosts.ts'
import { until } from '../../support/until.ts'

const hour = 3_600_000
const alone = { ends: 'right file', guards: 'A1', only: 'one piece' } as const

interface Started {
  readonly process: FaultProcess
  readonly end: Promise<Ending | undefined>
}

async function begin(scene: FaultScene, place: ProcessOptions): Promise<Started> {
  const child = await FaultProcess.start(place)
  scene.t.after(() => child.kill())
  const job: FaultJob = {
    source: { url: scene.url, ...scene.source },
    destination: scene.destination,
    retryDelaysMs: [],
  }
  return { process: child, end: child.run(job) }
}

/** Begins a download there that has half of the file, and its map says so. The server holds the rest back. */
async function beginHalf(scene: FaultScene, place: ProcessOptions): Promise<Started> {
  scene.server.pause(path, half(scene))
  const started = await begin(scene, place)
  await until('the map has all that came', () => partialsIn(scene.models)[0]?.bytes === half(scene))
  return started
}

/** Where each request began, so far. */
const starts = ({ server }: FaultScene) =>
  server.requests(path).map(({ headers }) => Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0))

// Containers: one kernel, and for the rest nothing in common but the folder

async function container(scene: FaultScene, options: Partial<ContainerOptions> = {}): Promise<Container> {
  mkdirSync(scene.models, { recursive: true })
  return disposed(scene.t, await Container.start({ shared: [scene.models], ...options }))
}

function disposed<T extends AsyncDisposable>(t: TestContext, what: T): T {
  t.after(() => what[Symbol.asyncDispose]())
  return what
}

fault(
  'SIGKILL in a container, and gone on with in another one',
  { ...alone, requests: 2, ...withNamespaces },
  async (scene) => {
    const one = await container(scene, { hostname: 'one' })
    const killed = await beginHalf(scene, one.node())
    await killed.process.kill()
    await scene.server.idle(path)
    scene.server.resume(path)
    const other = await container(scene, { hostname: 'two' })
    const { end } = await begin(scene, other.node())
    const right = (await end) ?? assert.fail('the process has ended before its download')
    assert.deepEqual(starts(scene), [0, half(scene)])
    return right
  },
)
fault(
  'a folder that is pruned while somebody downloads in a container',
  { ...alone, requests: 1, ...withNamespaces },
  async (scene) => {
    const { end } = await beginHalf(scene, (await container(scene)).node())
    assert.deepEqual(await pruneFolder(scene.models, 0), [])
    scene.server.resume(path)
    return (await end) ?? assert.fail('the process has ended before its download')
  },
)
/** Both download it whole, each to a partial of its own. */
async function eachHasItsOwn(scene: FaultScene, mine: ProcessOptions, theirs: ProcessOptions): Promise<Ending> {
  const one = await beginHalf(scene, mine)
  const other = await begin(scene, theirs)
  await until('each has its own', () => scene.partials.length === 2)
  scene.server.resume(path)
  const [first, second] = await Promise.all([one.end, other.end])
  assert.deepEqual(starts(scene), [0, 0])
  assert.ok(first && second)
  assert.equal(scene.judge(first), 'right file')
  return second
}

fault('a download that another container takes for its own', { ...alone, ...withNamespaces }, async (scene) => {
  const [one, other] = [await container(scene, { hostname: 'one' }), await container(scene, { hostname: 'two' })]
  return eachHasItsOwn(scene, one.node(), other.node())
})

// Machines: neither sees the other's locks

async function hosts(scene: FaultScene): Promise<TwoHosts> {
  mkdirSync(scene.models)
  return disposed(scene.t, await TwoHosts.open(scene.models))
}

/** Maps come 50 ms after a write, or sooner. */
const isOld = (record: string) => Date.now() - statSync(record).mtimeMs > 300

/** Nothing has happened to the partials since so many hours. */
function ageBy(hours: number, { models }: FaultScene): void {
  const at = new Date(Date.now() - hours * hour)
  for (const { path, recordPath } of partialsIn(models)) for (const file of [path, recordPath]) utimesSync(file, at, at)
}

fault('a download that another machine takes for its own', { ...alone, ...withTwoHosts }, async (scene) => {
  const { one, other } = await hosts(scene)
  return eachHasItsOwn(scene, one.node(), other.node())
})
for (const [ago, isTaken] of [
  [5, false],
  [7, true],
] as const) {
  fault(
    `a machine that is gone since ${ago} hours: another one ${isTaken ? 'goes on' : 'begins again'}`,
    { ...alone, requests: 2, ...withTwoHosts },
    async (scene) => {
      const { one, other } = await hosts(scene)
      // Without a hash no machine goes on with what it has not seen written: it may have been lost with the other's power.
      scene.source = { sha256: scene.file.sha256 }
      const mine = await beginHalf(scene, one.node())
      await mine.process.kill()
      await scene.server.idle(path)
      scene.server.resume(path)
      ageBy(ago, scene)
      const { end } = await begin(scene, other.node())
      const right = (await end) ?? assert.fail('the process has ended before its download')
      assert.deepEqual(starts(scene), [0, isTaken ? half(scene) : 0])
      return right
    },
  )
}
fault(
  'a machine that sleeps for 7 hours, while another one publishes its download: it wakes up, fails, and leaves the file alone',
  { ...alone, ...withTwoHosts },
  async (scene) => {
    const { one, other } = await hosts(scene)
    scene.source = { sha256: scene.file.sha256 }
    const mine = await beginHalf(scene, one.node())
    // A map that is still to come would look first, and find that the partial is not its own any more.
    await until('the last map is written', () => partialsIn(scene.models).every(({ recordPath }) => isOld(recordPath)))
    mine.process.stop()
    ageBy(7, scene)
    // What comes next is all that it hears when it wakes up.
    scene.server.cut()
    await scene.server.idle(path)
    scene.server.resume(path)
    const { end } = await begin(scene, other.node())
    const right = (await end) ?? assert.fail('the process has ended before its download')
    assert.deepEqual(starts(scene), [0, half(scene)])
    scene.server.hangUp('reset')
    mine.process.goOn()
    const late = (await mine.end) ?? assert.fail('the process has ended before its download')
    scene.server.hangUp(undefined)
    assert.equal(scene.judge(late), 'ERR_MODEL_NETWORK')
    return right
  },
)
fault(
  'SIGKILL on a machine that shares a file server: it goes on at once itself',
  { ...alone, requests: 2, ...withTwoHosts },
  async (scene) => {
    const { one } = await hosts(scene)
    const mine = await beginHalf(scene, one.node())
    await mine.process.kill()
    await scene.server.idle(path)
    scene.server.resume(path)
    const { end } = await begin(scene, one.node())
    const right = (await end) ?? assert.fail('the process has ended before its download')
    assert.deepEqual(starts(scene), [0, half(scene)])
    return right
  },
)
