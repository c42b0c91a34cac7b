// One request and all that its answer depends on.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Connection } from './connection.ts'
import type { Fault } from './fault.ts'
import type { ServedPath } from './served-path.ts'
import type { Throttle } from './throttle.ts'

export interface Exchange {
  readonly url: URL
  readonly at: ServedPath
  readonly fault: Fault | undefined
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly connection: Connection
  /** Of all connections together. */
  readonly throttle: Throttle
}
