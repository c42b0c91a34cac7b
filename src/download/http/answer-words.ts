// What a server says besides its status: how long to leave it alone, and why it refused.

/** A header of an answer, by its lower-case name. */
export type HeaderOf = (name: string) => string | undefined

/**
 * How long the server asks to be left alone, in milliseconds. By `Retry-After`, else by the hub's `RateLimit`, where
 * that says that nothing is left.
 */
export function retryAfterOf(header: HeaderOf): number | undefined {
  return delayIn(header('retry-after'), header('date')) ?? resetIn(header('ratelimit'))
}

// Seconds or a date (RFC 9110, 10.2.3). The date is by the server's clock, which its answer tells; ours may be years
// off.
function delayIn(text: string | undefined, date: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (/^\s*\d+\s*$/.test(text)) return Number(text) * 1000
  // `Date.parse` takes nearly anything for a date, `-3` too.
  const at = /^\s*[a-z]{3,9},? /i.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(at)) return undefined
  const now = Date.parse(date ?? '')
  return Math.max(0, at - (Number.isNaN(now) ? Date.now() : now))
}

/**
 * `"resolvers";r=0;t=60`, one for each limit (draft-ietf-httpapi-ratelimit-headers-08 and later); before that
 * `limit=3000, remaining=0, reset=60`. https://huggingface.co/docs/hub/rate-limits
 */
function resetIn(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const limits = /(^|[,;]\s*)reset\s*=/.test(text) ? [text] : text.split(/,(?=(?:[^"]*"[^"]*")*[^"]*$)/)
  const resets = limits.map((limit) => {
    const left = figureIn(limit, 'r|remaining')
    const seconds = figureIn(limit, 't|reset')
    return seconds === undefined || (left !== undefined && left > 0) ? undefined : seconds * 1000
  })
  // Each of them has to be over.
  return resets.reduce((most, reset) => (reset === undefined ? most : Math.max(most ?? 0, reset)), undefined)
}

function figureIn(limit: string, names: string): number | undefined {
  const figure = new RegExp(`(?:^|[;,])\\s*(?:${names})\\s*=\\s*(\\d{1,9})\\s*(?=$|[;,])`).exec(limit)?.[1]
  return figure === undefined ? undefined : Number(figure)
}

const mostCharacters = 300

/**
 * Why the hub refused, in its own words: `X-Error-Message` and `X-Error-Code`. One line without control or
 * bidirectional characters, and without any of `secrets`, which a server may have repeated.
 */
export function refusalWords(header: HeaderOf, secrets: readonly string[] = []): string | undefined {
  const message = cleaned(header('x-error-message'), secrets)
  const code = cleaned(header('x-error-code'), secrets)
  if (message === undefined || code === undefined) return message ?? code
  return message.includes(code) ? message : `${message} (${code})`
}

function cleaned(text: string | undefined, secrets: readonly string[]): string | undefined {
  if (text === undefined) return undefined
  const told = secrets.reduce((left, secret) => left.replaceAll(secret, '…'), text)
  const line = told
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Bidi_Control}\ufffd]/gu, ' ')
    .replace(/\s+/g, ' ')
    .trim()
  if (line === '') return undefined
  return line.length <= mostCharacters ? line : `${line.slice(0, mostCharacters).trimEnd()}…`
}

/**
 * What must not be repeated of a request: the values of its headers, what follows a scheme there, a password, and the
 * values in its query. Not what is too short to be a secret: without it the words would be unreadable.
 */
export function secretsOf({
  url,
  headers,
}: {
  url: string
  headers: Readonly<Record<string, string>>
}): readonly string[] {
  const inQuery = [...new URL(url).searchParams.values()]
  return [...secretsIn(headers), ...[...inQuery, ...inQuery.map(encodeURIComponent)].filter(isLong)]
}

export function secretsIn(headers: Readonly<Record<string, string>>): readonly string[] {
  const all = Object.values(headers).flatMap((value) => {
    const [, scheme = '', rest = ''] = /^(\w+)\s+(.+)$/.exec(value) ?? []
    const pair = scheme.toLowerCase() === 'basic' ? Buffer.from(rest, 'base64').toString() : ''
    const [user = '', password = ''] = pair.split(/:(.*)/s)
    // Some services take a token for the user, and no password.
    return [value, rest, pair, password === '' ? user : password]
  })
  return all.filter(isLong)
}

function isLong({ length }: string): boolean {
  return length >= 4
}
