// Which proxy a request goes through, as curl reads the environment: https://curl.se/docs/manpage.html#ENVIRONMENT
import { BlockList, isIP } from 'node:net'
import { ModelDownloadError } from '../errors.ts'
import { decoded, type Environment } from '../source/hub.ts'

export interface ProxyAddress {
  readonly kind: 'http' | 'socks5'
  /** Without user info. */
  readonly url: string
  readonly user: string
  /** A secret, as `user` is. */
  readonly password: string
  /** The variable that names it. */
  readonly variable: string
}

export interface Proxies {
  /** For `http:` URLs. */
  readonly http: ProxyAddress | undefined
  /** For `https:` URLs. */
  readonly https: ProxyAddress | undefined
  /** Whether this URL is to be asked for without a proxy. */
  isDirect(url: URL): boolean
}

/**
 * `http_proxy`, `https_proxy`, else `all_proxy`, and `no_proxy`; each also in capitals. A variable that is set to
 * nothing asks for no proxy.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_NETWORK`: a variable names no proxy that can be used
 */
export function proxiesOf(env: Environment): Proxies {
  const exceptions = variableOf(env, 'no_proxy')?.value ?? ''
  if (exceptions.trim() === '*') return { http: undefined, https: undefined, isDirect: () => true }
  const proxyFor = (scheme: string) => {
    const named = variableOf(env, `${scheme}_proxy`) ?? variableOf(env, 'all_proxy')
    return named === undefined || named.value.trim() === '' ? undefined : addressOf(named)
  }
  return { http: proxyFor('http'), https: proxyFor('https'), isDirect: matcherOf(exceptions) }
}

interface Variable {
  readonly name: string
  readonly value: string
}

function variableOf(env: Environment, lowerCase: string): Variable | undefined {
  for (const name of [lowerCase, lowerCase.toUpperCase()]) {
    const value = env[name]
    if (value !== undefined) return { name, value }
  }
  return undefined
}

/** No error of undici or of `URL` gets out: they quote the whole address, and its password. */
function addressOf({ name, value }: Variable): ProxyAddress {
  const text = value.trim()
  const withScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`
  const url = URL.canParse(withScheme) ? new URL(withScheme) : undefined
  // An unescaped # or / or ? in a password ends the host there, and the rest of it would be taken for something else.
  const rest = url && url.pathname + url.search + url.hash
  if (url === undefined || url.hostname === '' || rest?.includes('@')) {
    throw unusable(
      name,
      'is no address of a proxy. In a user name or password write # as %23, / as %2F, ? as %3F, @ as %40',
    )
  }
  const scheme = url.protocol.slice(0, -1)
  const [user, password] = [decoded(url.username), decoded(url.password)]
  const common = { user, password, variable: name }
  // What is asked for by name is resolved by the proxy in any case, so socks5h is the same.
  if (/^socks(5h?)?$/.test(scheme)) return { ...common, kind: 'socks5', url: `socks5://${url.host || url.hostname}` }
  if (scheme === 'http' || scheme === 'https') return { ...common, kind: 'http', url: url.origin }
  throw unusable(name, `names a proxy of a kind that can't be used (${scheme})`)
}

export function unusable(variable: string, why: string): ModelDownloadError {
  return new ModelDownloadError(
    'ERR_MODEL_NETWORK',
    `The variable ${variable} ${why}. Proxies are http://host:port, https://host:port or socks5://host:port`,
  )
}

/** `.example.org`, `example.org`, `host:port`, an address, or a range of addresses such as `10.0.0.0/8`. */
function matcherOf(exceptions: string): (url: URL) => boolean {
  const entries = exceptions.split(/[,\s]+/).filter((entry) => entry !== '')
  const ranges = rangesOf(entries)
  const names = entries.map(nameOf)
  return (url) => {
    const host = bare(url.hostname)
    const port = url.port || (url.protocol === 'https:' ? '443' : '80')
    const family = isIP(host)
    if (family !== 0 && ranges.check(host, family === 6 ? 'ipv6' : 'ipv4')) return true
    return names.some(
      (name) =>
        (name.port === undefined || name.port === port) && (host === name.host || host.endsWith(`.${name.host}`)),
    )
  }
}

function nameOf(entry: string): { readonly host: string; readonly port: string | undefined } {
  const [, address, port] = isIP(entry) === 0 ? (/^(.+?):(\d+)$/.exec(entry) ?? [undefined, entry]) : [undefined, entry]
  return { host: bare(address ?? entry).replace(/^\*?\./, ''), port }
}

function bare(host: string): string {
  return host
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '')
}

function rangesOf(entries: readonly string[]): BlockList {
  const ranges = new BlockList()
  for (const entry of entries) {
    const [, address = '', bits] = /^(.+)\/(\d{1,3})$/.exec(entry) ?? []
    const family = isIP(bare(address))
    const length = Number(bits)
    if (family === 0 || length > (family === 6 ? 128 : 32)) continue
    ranges.addSubnet(bare(address), length, family === 6 ? 'ipv6' : 'ipv4')
  }
  return ranges
}
