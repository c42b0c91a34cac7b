import './mutex/dispose-symbols.ts'

export { acquireAll, type MutexLocks } from './mutex/acquire-all.ts'
export {
  MutexAccessError,
  MutexArgumentError,
  MutexDeadlockError,
  MutexError,
  type MutexErrorCode,
  MutexLostError,
  MutexTimeoutError,
} from './mutex/errors.ts'
export type { MutexState } from './mutex/mutex-core.ts'
export type { MutexLock } from './mutex/mutex-lock.ts'
export type { MutexScope } from './mutex/mutex-name.ts'
export {
  type AcquireOptions,
  type AcquireSyncOptions,
  NamedMutex,
  type NamedMutexOptions,
  type TryAcquireOptions,
} from './mutex/named-mutex.ts'
export type { ReportedProgress, WaitOptions } from './mutex/options.ts'
export type { OwnerInfo, OwnerProgress } from './mutex/owner-info.ts'
export type {
  AbandonedEvent,
  AcquireEvent,
  LostEvent,
  ReleaseEvent,
  TimeoutEvent,
  WaitEvent,
} from './mutex/telemetry.ts'
