// What a party does: the main script of a child process or worker thread that a test steers (see party.ts).
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import { isMainThread, parentPort } from 'node:worker_threads'
import { acquireAll, type MutexLock, NamedMutex } from 'os-mutex'
import type { Acquired, PartyMessage, PartyRequest } from './party.ts'
import { started } from './start.ts'

// '': the default lock home.
const directory = process.argv[2] ?? ''
const mutexes = new Map<string, NamedMutex>()
const locks = new Map<number, MutexLock>()
const aborts = new Map<number, AbortController>()

function send(message: PartyMessage): void {
  if (isMainThread) process.send?.(message)
  else parentPort?.postMessage(message)
}

function mutex(name: string): NamedMutex {
  const known = mutexes.get(name) ?? new NamedMutex(name, directory === '' ? {} : { directory })
  mutexes.set(name, known)
  return known
}

/** What the body of {@link Party.run} gets, besides its arguments. */
const scope = {
  NamedMutex,
  acquireAll,
  execFileSync: ((...args: Parameters<typeof execFileSync>) =>
    started(() => execFileSync(...args))) as typeof execFileSync,
  spawn: ((...args: Parameters<typeof spawn>) => started(() => spawn(...args))) as typeof spawn,
  fs,
  load: (url: string): Promise<unknown> => import(url),
  directory,
  /** This party's instance for a name. */
  mutex,
  /** Keeps what has to outlive the body. */
  kept: [] as unknown[],
  tell: (what: unknown) => send({ is: 'told', what }),
  /** Lets the party end of itself, as a program whose work is done. */
  end: () => {
    process.off('disconnect', exit)
    process.off('message', receive)
    if (isMainThread) setImmediate(() => process.disconnect())
    else parentPort?.close()
  },
}
export type Scope = typeof scope

function acquired(id: number, lock: MutexLock): Acquired {
  locks.set(id, lock)
  const { abandoned, previousOwner, waitedMs } = lock
  return { abandoned, waitedMs, ...(previousOwner === undefined ? {} : { previousOwner }) }
}

async function perform(request: PartyRequest): Promise<unknown> {
  const { id } = request
  switch (request.do) {
    case 'acquire': {
      const { sync, ...options } = request.options
      const onWait: NonNullable<Parameters<NamedMutex['acquireSync']>[0]>['onWait'] = (owner) =>
        send({ is: 'waiting', id, owner })
      if (sync === true) return acquired(id, mutex(request.name).acquireSync({ ...options, onWait }))
      const controller = new AbortController()
      aborts.set(id, controller)
      return acquired(id, await mutex(request.name).acquire({ ...options, onWait, signal: controller.signal }))
    }
    case 'try': {
      const lock = mutex(request.name).tryAcquire(request.purpose === undefined ? {} : { purpose: request.purpose })
      return lock === null ? null : acquired(id, lock)
    }
    case 'query':
      return mutex(request.name).query()
    case 'run':
      return (new Function(`return (${request.body})`)() as (...args: unknown[]) => unknown)(scope, ...request.args)
    case 'abort':
      return aborts.get(request.of)?.abort(new Error('aborted by the test'))
    case 'release':
      locks.get(request.of)?.release()
      return void locks.delete(request.of)
    case 'report':
      return locks.get(request.of)?.report(request.progress)
  }
}

function exit(): void {
  process.exit()
}

async function receive(request: PartyRequest): Promise<void> {
  try {
    const result = await perform(request)
    send({ is: 'done', id: request.id, result })
  } catch (error) {
    const { name, message, stack, ...rest } = error as Error & Record<string, unknown>
    delete rest.cause
    send({ is: 'failed', id: request.id, error: { ...rest, ...{ name, message, stack } } })
  }
}

if (isMainThread) {
  process.on('message', receive)
  process.once('disconnect', exit)
} else {
  parentPort?.on('message', receive)
}
send({ is: 'ready' })
