// For `import`: the same code as for `require()`, so that both have the same classes and the same state.
import './in-package.mts'

export type * from './index.ts'
export {
  acquireAll,
  MutexAccessError,
  MutexArgumentError,
  MutexDeadlockError,
  MutexError,
  MutexLostError,
  MutexTimeoutError,
  NamedMutex,
} from './index.ts'
