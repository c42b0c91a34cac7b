// Containers and hosts that tests work with are really apart where they should be, and share what they should.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Container, type ContainerOptions } from '../support/containers.ts'
import { openDownloadFolder, sha256Of } from '../support/download-folder.ts'
import { FaultProcess } from '../support/fault-process.ts'
import { GateProcess } from '../support/gate-process.ts'
import { withNamespaces } from '../support/namespaces.ts'
import { secondUser, withSecondUser } from '../support/second-user.ts'
import { TwoHosts, withTwoHosts } from '../support/two-hosts.ts'
import { until } from '../support/until.ts'

const bootId = '/proc/sys/kernel/random/boot_id'
const KiB = 1024

async function open(t: TestContext, options: Partial<ContainerOptions> = {}) {
  const folder = await openDownloadFolder(t)
  mkdirSync(folder.models)
  const container = await Container.start({ shared: [folder.models], ...options })
  t.after(() => container[Symbol.asyncDispose]())
  return { ...folder, container }
}

/** Of a program that runs in there. */
const output = (container: Container, command: string, ...args: string[]) => container.run(command, args).stdout.trim()

test('a container has its own pids, host name, /tmp and mounts, and the shared folder', withNamespaces, async (t) => {
  const { container, models } = await open(t, { hostname: 'pod-1' })
  for (const space of ['pid', 'uts', 'mnt', 'ipc'])
    assert.notEqual(output(container, 'readlink', `/proc/self/ns/${space}`), readlinkSync(`/proc/self/ns/${space}`))
  assert.equal(output(container, 'readlink', '/proc/self/ns/net'), readlinkSync('/proc/self/ns/net'))
  assert.deepEqual([output(container, 'hostname'), hostname() === 'pod-1'], ['pod-1', false])
  assert.deepEqual(
    output(container, 'sh', '-c', 'ls /proc | grep -c "^[0-9]"'),
    '5',
    'the shell, its cat, and these three',
  )
  assert.equal(output(container, 'cat', bootId), readFileSync(bootId, 'utf8').trim())
  container.run('sh', ['-c', `echo shared >'${models}/note'; echo own >/tmp/os-mutex-own`])
  assert.equal(readFileSync(join(models, 'note'), 'utf8'), 'shared\n')
  assert.ok(!existsSync('/tmp/os-mutex-own') && existsSync(container.pathOf('/tmp/os-mutex-own')))
  assert.equal(output(container, 'ls', dirname(models)), 'models', 'nothing else of that folder')
})

test('a container may have another boot id', withNamespaces, async (t) => {
  const { container } = await open(t, { bootId: 'another-boot' })
  assert.equal(output(container, 'cat', bootId), 'another-boot')
})

test('a process in a container downloads, and is killed, stopped and woken from outside', withNamespaces, async (t) => {
  const scene = await open(t)
  const { container, server, payload, destination } = scene
  const file = payload(256 * KiB)
  const source = server.serve('/model.gguf', file.path)
  const job = { source, destination, retryDelaysMs: [] }
  server.pause('/model.gguf', 100 * KiB)
  const [killed, other] = await Promise.all([
    FaultProcess.start(container.node()),
    FaultProcess.start(container.node()),
  ])
  const end = killed.run(job)
  await server.reached('/model.gguf', 100 * KiB)
  await killed.kill()
  assert.equal(await end, undefined)
  await server.idle('/model.gguf')
  assert.equal(await (await FaultProcess.start(container.node())).run({ ...job, killAt: 'resolving' }), undefined)
  other.stop()
  const state = () => output(container, 'sh', '-c', 'cat /proc/[0-9]*/stat').match(/\(node\) (\S)/)?.[1]
  await until('it stands still', () => state() === 'T')
  other.goOn()
  await until('it is awake', () => state() !== 'T')
  server.resume('/model.gguf')
  const result = await other.run(job)
  assert.ok(result && 'model' in result)
  assert.equal(sha256Of(destination), file.sha256)
  await other.kill()
})

test('a gate works in a container', withNamespaces, async (t) => {
  const scene = await open(t)
  const { container, server, payload, models } = scene
  const file = payload(256 * KiB)
  const place = container.node()
  await using gate = await GateProcess.start({ modelsDirectory: models }, {}, place)
  const model = await gate.ensureModel(server.serve('/model.gguf', file.path)).result
  assert.deepEqual([model.sha256, model.path], [file.sha256, scene.destination])
  assert.equal(sha256Of(scene.destination), file.sha256)
})

test('all that runs in a container ends with it', withNamespaces, async (t) => {
  const { container } = await open(t)
  const child = container.spawn('cat')
  const ended = once(child, 'exit')
  await container[Symbol.asyncDispose]()
  await ended
})

const both = { ...withNamespaces, ...withSecondUser }
test("a second user in a container with hidepid does not see the others' processes", both, async (t) => {
  const { container, models } = await open(t, { hidesProcesses: true })
  const pids = (uid?: number) =>
    container.run('sh', ['-c', 'ls /proc | grep "^[0-9]"'], uid === undefined ? {} : { uid }).stdout
  assert.match(pids(), /^1$/m)
  assert.doesNotMatch(pids(secondUser), /^1$/m)
  assert.equal(container.run('touch', [join(models, 'his')], { uid: secondUser }).status, 1)
  chmodSync(models, 0o1777)
  assert.equal(container.run('touch', [join(models, 'his')], { uid: secondUser }).status, 0)
  const { execPath, execArgv } = container.node({ uid: secondUser })
  assert.deepEqual([execPath, execArgv.at(-1)], ['nsenter', process.execPath])
})

test('two hosts have one folder, and neither sees the locks of the other', withTwoHosts, async (t) => {
  const { models, server, payload, destination } = await openDownloadFolder(t)
  mkdirSync(models)
  await using hosts = await TwoHosts.open(models)
  const { one, other } = hosts
  for (const of of ['cat /proc/sys/kernel/random/boot_id', 'hostname', 'readlink /proc/self/ns/pid'])
    assert.equal(new Set([one, other, one].map((host) => output(host, 'sh', '-c', of))).size, 2, of)
  const lock = join(models, 'lock')
  writeFileSync(lock, '')
  const holder = one.spawn('flock', ['-n', lock, 'sh', '-c', 'echo locked; cat'])
  await once(holder.stdout ?? assert.fail(), 'data')
  const isRefused = (host: Container) => host.run('flock', ['-n', lock, 'true']).status === 1
  assert.deepEqual([isRefused(one), isRefused(other)], [true, false])
  // What is written is seen at once.
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.run('sh', ['-c', `echo ${from.hostname} >${lock}; mv ${lock} ${lock}-moved; mv ${lock}-moved ${lock}`])
    assert.equal(output(to, 'cat', lock), from.hostname)
    assert.match(readFileSync(lock, 'utf8'), new RegExp(from.hostname))
  }
  const file = payload(256 * KiB)
  const source = server.serve('/model.gguf', file.path)
  const processes = await Promise.all([one, other].map((host) => FaultProcess.start(host.node())))
  for (const process of processes) {
    const end = await process.run({ source, destination })
    assert.ok(end && 'model' in end, JSON.stringify(end))
    await process.kill()
  }
  assert.deepEqual([sha256Of(destination), server.bytesServed('/model.gguf')], [file.sha256, file.bytes])
})
