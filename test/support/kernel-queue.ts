// The kernel's word on who has a mutex and who stands in line for it: proof that a waiter is blocked, without sleeping.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { flockQueue } from './flock-queue.ts'
import { until } from './until.ts'
import { countsOf } from './win32/foreign.ts'
import { mutexLine, objectNameOf } from './win32/mutex-line.ts'

/** Pids, one for each lock and each request. */
export interface KernelQueue {
  readonly owners: readonly number[]
  readonly waiters: readonly number[]
}

const { platform } = process

// Stands for each of them where the kernel tells how many there are, and not who.
const SOMEBODY = 0
const tellsNumberOnly = platform === 'win32' && mutexLine('os-mutex-test') !== undefined

/** Linux tells by /proc/locks, Wine by its count of references (see win32/foreign.c). Elsewhere what needs it is skipped. */
export const kernelTells = platform === 'linux' || tellsNumberOnly
export const unlessKernelTells = kernelTells
  ? {}
  : { skip: 'neither macOS nor Windows itself shows the queue of a lock, as Linux (/proc/locks) and Wine do' }

/** Whether it also tells who they are. */
export const kernelTellsPids = platform === 'linux'

/** Who has the mutex of the file at `path`, and who waits for it. */
function kernelQueue(path: string): KernelQueue {
  if (!tellsNumberOnly) return flockQueue(path)
  const line = mutexLine(objectNameOf(path))
  return { owners: line?.isHeld ? [SOMEBODY] : [], waiters: Array.from({ length: line?.waiters ?? 0 }, () => SOMEBODY) }
}

/** As the kernel tells them. */
function told(pids: readonly number[]): readonly number[] {
  return kernelTellsPids ? pids.toSorted((a, b) => a - b) : pids.map(() => SOMEBODY)
}

/** Whether just these own the mutex, and just these stand in line. */
export function isQueue(path: string, owners: readonly number[], waiters: readonly number[]): boolean {
  const queue = kernelQueue(path)
  return String([told(queue.owners), '|', told(queue.waiters)]) === String([told(owners), '|', told(waiters)])
}

export function assertQueue(path: string, owners: readonly number[], waiters: readonly number[], why?: string): void {
  const queue = kernelQueue(path)
  const seen = { owners: told(queue.owners), waiters: told(queue.waiters) }
  assert.deepEqual(seen, { owners: told(owners), waiters: told(waiters) }, why)
}

/** Resolves when all of `pids` stand in the kernel's line for the mutex, blocked (and as often as they are named). */
export async function untilQueued(path: string, ...pids: number[]): Promise<void> {
  const expected = told(pids)
  const times = (pid: number, list: readonly number[]) => list.filter((other) => other === pid).length
  await until(`${pids} wait for ${path}`, () => {
    const { waiters } = kernelQueue(path)
    return expected.every((pid) => times(pid, waiters) >= times(pid, expected))
  })
}

/** The addon's own threads in this process. */
export function addonThreads(): number {
  if (platform === 'win32') return countsOf(process.pid).ownerThreads
  return readdirSync('/proc/self/task').filter((id) => commandOf(id) === 'os-mutex').length
}

function commandOf(thread: string): string {
  try {
    return readFileSync(`/proc/self/task/${thread}/comm`, 'latin1').trim()
  } catch {
    return '' // it has ended in the meantime
  }
}

const still = Symbol('still waiting')

/**
 * Proves that the acquire is blocked, by the kernel's word where it gives one: all of `pids` stand in line at `path`, its own
 * last, and the acquire has not ended.
 */
export async function mustBlock(acquire: Promise<unknown>, path: string, ...pids: number[]): Promise<void> {
  if (kernelTells) await untilQueued(path, ...pids)
  const first = await Promise.race([
    acquire.then(
      () => 'ended',
      () => 'failed',
    ),
    turn().then(() => still),
  ])
  if (first !== still) throw new Error(`The acquire should be blocked, but it ${String(first)}`)
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
