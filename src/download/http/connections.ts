// The connections of one download: the caller's own dispatcher, or one made for it, by way of the proxies that the
// environment names.
import { setMaxListeners } from 'node:events'
import type { buildConnector, Dispatcher } from 'undici'
import type { Environment } from '../source/hub.ts'
import { secretsIn } from './answer-words.ts'
import { checkDispatcher, type RequestDispatcher } from './dispatcher.ts'
import { inPlaceConnector } from './in-place.ts'
import { type Proxies, type ProxyAddress, proxiesOf, unusable } from './proxies.ts'
import { undici } from './undici.ts'

export interface Connections {
  readonly dispatcher: RequestDispatcher
  /** What the proxies are told, and may repeat where they refuse. */
  readonly secrets: readonly string[]
  /** Ends what is under way, unless the dispatcher is the caller's. */
  close(): void
}

/**
 * How long one address of a host may take before the next one is tried, in milliseconds. Node's own 250 ms give up
 * every far server where one of two families is dead: https://github.com/nodejs/node/issues/54359
 */
const addressTimeoutMs = 3_000

/**
 * `stallMs`: how long making a connection may take.
 *
 * @throws `TypeError` `ERR_MUTEX_INVALID_ARGUMENT`: `given` is no dispatcher that can be used
 * @throws {ModelDownloadError} `ERR_MODEL_NETWORK`: a variable of the environment names no proxy that can be used
 */
export function openConnections(
  given: RequestDispatcher | undefined,
  stallMs: number,
  env: Environment = process.env,
): Connections {
  if (given !== undefined) {
    checkDispatcher(given)
    return { dispatcher: given, secrets: [], close: () => {} }
  }
  const proxies = proxiesOf(env)
  const closing = new AbortController()
  setMaxListeners(0, closing.signal)
  const { dispatcher, all } = agentsFor(proxies, {
    timeout: stallMs,
    signal: closing.signal,
    // A peer that is gone shows by `stallMs`, long before. (And Wine's sockets do not know it.)
    keepAlive: false,
    autoSelectFamilyAttemptTimeout: addressTimeoutMs,
  } as ConnectOptions)
  return {
    dispatcher,
    secrets: [proxies.http, proxies.https].flatMap(secretsOfProxy),
    close: () => {
      // An agent waits for connections that are still being made, and they would keep the process alive for as long.
      closing.abort()
      for (const agent of all) void agent.destroy()
    },
  }
}

type ConnectOptions = buildConnector.BuildOptions

/** Each request goes its own way: a redirect may lead from a host behind a proxy to one that is not. */
function agentsFor(proxies: Proxies, connect: ConnectOptions): { dispatcher: Dispatcher; all: readonly Dispatcher[] } {
  const direct = new undici.Agent({ connect: inPlaceConnector(connect) })
  const way = (address: ProxyAddress | undefined) =>
    address && { agent: proxyAgent(address, connect), variable: address.variable }
  const [http, https] = [way(proxies.http), way(proxies.https)]
  if (http === undefined && https === undefined) return { dispatcher: direct, all: [direct] }
  const dispatcher = direct.compose((dispatch) => (options, handler) => {
    const url = new URL(options.origin ?? '')
    const proxy = url.protocol === 'https:' ? https : http
    if (proxy === undefined || proxies.isDirect(url)) return dispatch(options, handler)
    return proxy.agent.dispatch(options, namingProxy(handler, proxy.variable))
  })
  const all = [direct, http?.agent, https?.agent].filter((agent) => agent !== undefined)
  return { dispatcher, all }
}

function proxyToken({ user, password }: ProxyAddress): string | undefined {
  if (user === '' && password === '') return undefined
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
}

function secretsOfProxy(address: ProxyAddress | undefined): readonly string[] {
  const token = address && proxyToken(address)
  return token === undefined ? [] : secretsIn({ 'proxy-authorization': token })
}

function proxyAgent(address: ProxyAddress, connect: ConnectOptions): Dispatcher {
  const { kind, url, user, password, variable } = address
  if (kind === 'http') {
    const token = proxyToken(address)
    return new undici.ProxyAgent({ uri: url, proxyTls: connect, requestTls: connect, ...(token && { token }) })
  }
  // Not every undici 7 has it, and a named import of what is missing would fail for everything.
  const Socks5ProxyAgent = (undici as { Socks5ProxyAgent?: typeof undici.Socks5ProxyAgent }).Socks5ProxyAgent
  if (Socks5ProxyAgent === undefined)
    throw unusable(variable, 'names a SOCKS proxy, which the installed undici does not know')
  // No `proxyTls`: with it the proxy itself would be spoken to by TLS.
  const options = { connect: undici.buildConnector(connect), requestTls: connect }
  return new Socks5ProxyAgent(url, { ...options, ...(user !== '' && { username: user, password }) })
}

/** The same handler, but for errors: that a proxy is in between is what people overlook. */
function namingProxy(handler: Dispatcher.DispatchHandler, variable: string): Dispatcher.DispatchHandler {
  return {
    onRequestStart: (controller, context) => handler.onRequestStart?.(controller, context),
    onResponseStart: (...answer) => handler.onResponseStart?.(...answer),
    onResponseData: (controller, chunk) => handler.onResponseData?.(controller, chunk),
    onResponseEnd: (controller, trailers) => handler.onResponseEnd?.(controller, trailers),
    onResponseError: (controller, error) => handler.onResponseError?.(controller, byWayOf(variable, error)),
  }
}

function byWayOf(variable: string, error: Error): Error {
  const { code } = error as NodeJS.ErrnoException
  const what = error.message || code || error.name
  return Object.assign(new Error(`${what} (by way of the proxy that ${variable} names)`, { cause: error }), { code })
}
