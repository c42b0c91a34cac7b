// Whose credentials a request gets, and where they come from.
import { readFileSync } from 'node:fs'
import { validateHeaderValue } from 'node:http'
import { join } from 'node:path'
import { homeFolder } from '../disk/home-folder.ts'
import { invalidSource } from '../errors.ts'
import { decoded, type Environment, hubEndpoint, hubVariable } from './hub.ts'

/** An `authorization` header and its origin. */
export interface Credential {
  /** The header's value: a secret. */
  readonly value: string
  /** Where it comes from, for messages: `headers`, `the URL`, the name of a variable, the path of a file. */
  readonly from: string
  /** Nobody gave it for this source: it was found in the environment. The server may well do without it. */
  readonly isFound: boolean
}

/** Of the user info in a URL. */
export function basicCredential(url: URL, from: string): Credential | undefined {
  if (url.username === '' && url.password === '') return undefined
  const pair = `${decoded(url.username)}:${decoded(url.password)}`
  return { value: `Basic ${Buffer.from(pair).toString('base64')}`, from, isFound: false }
}

/** What the hub gets: the user info of its endpoint, else the token that is found. */
export function hubCredential(env: Environment): Credential | undefined {
  return basicCredential(hubEndpoint(env), hubVariable(env)) ?? hubToken(env)
}

/** The hub's token, as its own tools find it: `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `token` in `HF_HOME`. */
function hubToken(env: Environment): Credential | undefined {
  const given = firstLine(env.HF_TOKEN)
  if (given !== '') return bearer(given, 'HF_TOKEN')
  const path = tokenPath(env)
  const kept = path === undefined ? '' : firstLine(contentOf(path))
  return path === undefined || kept === '' ? undefined : bearer(kept, path)
}

function tokenPath(env: Environment): string | undefined {
  if (env.HF_TOKEN_PATH) return env.HF_TOKEN_PATH
  if (env.HF_HOME) return join(env.HF_HOME, 'token')
  if (env.XDG_CACHE_HOME) return join(env.XDG_CACHE_HOME, 'huggingface', 'token')
  const home = homeFolder()
  return home === undefined ? undefined : join(home, '.cache', 'huggingface', 'token')
}

function contentOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** What follows a token in its file is no part of it. */
function firstLine(text: string | undefined): string {
  return (text ?? '').trim().split(/\r|\n/)[0]?.trim() ?? ''
}

function bearer(token: string, from: string): Credential {
  const value = `Bearer ${token}`
  try {
    validateHeaderValue('authorization', value)
  } catch {
    // Without the cause: it may quote the token.
    throw invalidSource(`The token of the hub in ${from} has characters that no header can carry; correct or remove it`)
  }
  return { value, from, isFound: true }
}
