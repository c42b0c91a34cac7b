// Which host is asked for a source, and with whose credentials.
import { basicCredential, type Credential, hubCredential } from './credentials.ts'
import { type Environment, hubEndpoint } from './hub.ts'
import type { FilePlace, ParsedSource, TagPlace } from './parse.ts'

export interface Access {
  /** The hub's address for this source. Ends in a slash, and has no user info. */
  readonly hub: URL
  readonly credential: Credential | undefined
}

/**
 * The caller's own credentials, else those of the hub for what is on the hub. What a link brings, in itself or in
 * `headers`, is for its own origin and for no other, so such a link is not led to the endpoint of the environment.
 */
export function accessOf(place: FilePlace | TagPlace, asked: ParsedSource, env: Environment): Access {
  const endpoint = hubEndpoint(env)
  const link = place.kind === 'web' ? undefined : place.link
  const given = givenCredential(asked, place.kind === 'web' ? place.url : link?.url)
  const isForItsHost = link !== undefined && (given !== undefined || Object.keys(asked.headers).length > 0)
  const hub = isForItsHost ? link.base : withoutSecrets(endpoint)
  const asksHub = (place.kind === 'web' ? place.url : hub).origin === endpoint.origin
  return { hub, credential: given ?? (asksHub ? hubCredential(env) : undefined) }
}

function givenCredential({ headers }: ParsedSource, url: URL | undefined): Credential | undefined {
  const { authorization } = headers
  if (authorization !== undefined) return { value: authorization, from: '`headers`', isFound: false }
  return url && basicCredential(url, 'the URL')
}

export function isOnHub(place: FilePlace, env: Environment): boolean {
  return place.kind === 'hub' || place.url.origin === hubEndpoint(env).origin
}

/** Without user info and fragment. The query stays. */
export function withoutSecrets(url: URL): URL {
  const bare = new URL(url)
  bare.username = ''
  bare.password = ''
  bare.hash = ''
  return bare
}
