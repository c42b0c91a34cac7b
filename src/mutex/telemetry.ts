// What happens to mutexes, told on node:diagnostics_channel. Nobody listening costs a property read.
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

/** An acquire gave up after its `timeoutMs`. */
export interface TimeoutEvent {
  readonly mutex: string
  readonly timeoutMs: number
  readonly owner?: OwnerInfo
}

export const channels = {
  acquire: diagnostics.channel('os-mutex:acquire'),
  wait: diagnostics.channel('os-mutex:wait'),
  release: diagnostics.channel('os-mutex:release'),
  abandoned: diagnostics.channel('os-mutex:abandoned'),
  timeout: diagnostics.channel('os-mutex:timeout'),
} as const

type Events = {
  acquire: AcquireEvent
  wait: WaitEvent
  release: ReleaseEvent
  abandoned: AbandonedEvent
  timeout: TimeoutEvent
}

/** Publishes only where somebody listens; `event` is not even built otherwise. */
export function tell<K extends keyof Events>(kind: K, event: () => Events[K]): void {
  const channel = channels[kind]
  if (channel.hasSubscribers) channel.publish(event())
}
