// The stages of a mutex's life in which its environment (a worker thread or a process) can be torn down. The main script of
// both: stages.js STAGE DIRECTORY NAME. It goes to the stage and says that it is there.
import { isMainThread, parentPort } from 'node:worker_threads'
import type { MutexLock, NamedMutex } from 'os-mutex'
import { isQueue, kernelTells } from './kernel-queue.ts'

/** Stages at which somebody else has to hold the mutex. */
const amidWaiting = ['waiting', 'in a time limit', 'granted but not told', 'in acquireSync', 'in a crowd'] as const
const amidOthers = [
  'before loading',
  'loaded',
  'constructed',
  'holding',
  'released',
  'closed',
  'in native calls',
  'querying',
] as const

export const stages = [...amidOthers, ...amidWaiting] as const
export type Stage = (typeof stages)[number]

export function isAmidWaiting(stage: Stage): boolean {
  return amidWaiting.some((one) => one === stage)
}

/** What has to stay reachable to the end. */
const kept: unknown[] = []

function keepAcquire(mutex: NamedMutex, options: object = {}): void {
  mutex.acquire(options).then(
    (lock) => kept.push(lock),
    () => {},
  )
}

async function goTo(stage: Stage, directory: string, name: string): Promise<void> {
  if (stage === 'before loading') return there()
  const { NamedMutex } = await import('os-mutex')
  if (stage === 'loaded') return there()
  const mutex = new NamedMutex(name, { directory })
  kept.push(mutex)
  switch (stage) {
    case 'constructed':
      return there()
    case 'holding':
      kept.push(await mutex.acquire())
      return there()
    case 'released':
      ;(await mutex.acquire()).release()
      return there()
    case 'closed':
      kept.push(await mutex.acquire())
      mutex.close()
      return there()
    case 'in native calls':
      there()
      for (;;) {
        mutex.tryAcquire({ purpose: 'over and over' })?.release()
        if (isMainThread) await nextTurn()
      }
    case 'querying':
      kept.push(mutex.tryAcquire({ purpose: 'x'.repeat(256) }))
      there()
      for (;;) {
        mutex.query()
        if (isMainThread) await nextTurn()
      }
    case 'waiting':
      keepAcquire(mutex)
      return there()
    case 'in a time limit':
      keepAcquire(mutex, { timeoutMs: 60_000 })
      return there()
    case 'in a crowd':
      for (let index = 0; index < 50; index++) {
        keepAcquire(new NamedMutex(name, { directory }))
        keepAcquire(mutex, { timeoutMs: 60_000 + index })
      }
      return there()
    case 'in acquireSync':
      kept.push(mutex.acquireSync({ onWait: there }) satisfies MutexLock)
      return
    case 'granted but not told': {
      keepAcquire(mutex)
      if (kernelTells && isMainThread) while (!isQueue(mutex.path, [process.ppid], [process.pid]));
      there()
      // Deaf until it has been granted the lock, and for good in a worker, which is ended from outside.
      while (!kernelTells || !isMainThread || !isQueue(mutex.path, [process.pid], []));
      return
    }
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function there(): void {
  if (isMainThread) process.send?.('there')
  else parentPort?.postMessage('there')
}

const [stage, directory, name, exitCode] = process.argv.slice(2)
if (stage !== undefined && directory !== undefined && name !== undefined) {
  if (isMainThread) process.on('message', () => process.exit(Number(exitCode)))
  else parentPort?.on('message', () => process.exit(Number(exitCode)))
  await goTo(stage as Stage, directory, name)
  if (stage === 'granted but not told') process.exit(Number(exitCode))
}
