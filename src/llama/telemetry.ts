// What the gate tells listeners of node:diagnostics_channel. (The mutexes have channels of their own.)
import { channel } from 'node:diagnostics_channel'
import { monotonicMs } from './monotonic-clock.ts'

/** A message on `os-mutex:download` or `os-mutex:load`. */
export type GateEvent =
  | { readonly event: 'start'; readonly path: string; readonly waitedMs: number; readonly abandoned: boolean }
  | { readonly event: 'finish'; readonly path: string; readonly durationMs: number }
  | { readonly event: 'fail'; readonly path: string; readonly durationMs: number; readonly error: unknown }

const channels = { download: channel('os-mutex:download'), load: channel('os-mutex:load') }

/** Runs `work`, the thing that `lock` was taken for, and tells how it went. */
export async function observed<T>(
  what: keyof typeof channels,
  path: string,
  lock: { readonly waitedMs: number; readonly abandoned: boolean },
  work: () => Promise<T>,
): Promise<T> {
  const publish = (event: GateEvent) => channels[what].publish(event)
  const startedAt = monotonicMs()
  publish({ event: 'start', path, waitedMs: lock.waitedMs, abandoned: lock.abandoned })
  try {
    const result = await work()
    publish({ event: 'finish', path, durationMs: monotonicMs() - startedAt })
    return result
  } catch (error) {
    publish({ event: 'fail', path, durationMs: monotonicMs() - startedAt, error })
    throw error
  }
}
