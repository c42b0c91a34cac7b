// The connections of one download: the caller's own dispatcher, or one made for it, by way of the proxy that the environment names.
import { setMaxListeners } from 'node:events'
import { Agent, type Dispatcher, EnvHttpProxyAgent } from 'undici'

export interface Connections {
  readonly dispatcher: Dispatcher
  /** Ends what is under way, unless the dispatcher is the caller's. */
  close(): void
}

/** `stallMs`: how long making a connection may take. */
export function openConnections(given: Dispatcher | undefined, stallMs: number): Connections {
  if (given) return { dispatcher: given, close: () => {} }
  const closing = new AbortController()
  setMaxListeners(0, closing.signal)
  // No TCP keep-alive: a peer that is gone shows by `stallMs`, long before. (And Wine's sockets do not know it.)
  const connect = { timeout: stallMs, signal: closing.signal, keepAlive: false }
  // HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as undici reads them.
  const isProxied = ['http_proxy', 'https_proxy'].some((name) => process.env[name] || process.env[name.toUpperCase()])
  const agent = isProxied
    ? new EnvHttpProxyAgent({ connect, proxyTls: connect, requestTls: connect })
    : new Agent({ connect })
  return {
    dispatcher: agent,
    close: () => {
      // An agent waits for connections that are still being made, and they would keep the process alive for as long.
      closing.abort()
      void agent.destroy()
    },
  }
}
