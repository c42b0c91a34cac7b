// What happens to mutexes, published on node:diagnostics_channel. Without a listener it costs a property read.
import diagnostics from 'node:diagnostics_channel'
import type { OwnerInfo } from './owner-info.ts'

/** An acquire found the mutex taken: it waits. */
export interface WaitEvent {
  readonly mutex: string
  readonly purpose?: string
}

/** A lock was acquired. */
export interface AcquireEvent {
  readonly mutex: string
  readonly purpose?: string
  readonly waitedMs: number
  readonly abandoned: boolean
}

/** A lock was acquired after its previous owner ended without releasing. */
export interface AbandonedEvent {
  readonly mutex: string
  readonly previousOwner?: OwnerInfo
}

/** A lock was released. */
export interface ReleaseEvent {
  readonly mutex: string
  readonly heldMs: number
}

/** A lock ended under its living owner: its lock file was removed or replaced. */
export interface LostEvent {
  readonly mutex: string
  readonly path: string
  readonly purpose?: string
}

/** An acquire gave up after its `timeoutMs`. */
export interface TimeoutEvent {
  readonly mutex: string
  readonly timeoutMs: number
  readonly owner?: OwnerInfo
}

const channels = {
  acquire: diagnostics.channel('os-mutex:acquire'),
  wait: diagnostics.channel('os-mutex:wait'),
  release: diagnostics.channel('os-mutex:release'),
  abandoned: diagnostics.channel('os-mutex:abandoned'),
  timeout: diagnostics.channel('os-mutex:timeout'),
  lost: diagnostics.channel('os-mutex:lost'),
} as const

type Events = {
  acquire: AcquireEvent
  wait: WaitEvent
  release: ReleaseEvent
  abandoned: AbandonedEvent
  timeout: TimeoutEvent
  lost: LostEvent
}

/** Publishes only where somebody listens; `event` is not even built otherwise. */
export function notify<K extends keyof Events>(kind: K, event: () => Events[K]): void {
  const channel = channels[kind]
  if (channel.hasSubscribers) channel.publish(event())
}
