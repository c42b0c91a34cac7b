// A file that its server has in pieces (`model.gguf.part1of2`), as one: its bytes are theirs, one behind the other.
import { createHash } from 'node:crypto'
import type { ResolvedSource } from '../source/parse.ts'
import type { HttpOptions } from './http.ts'
import { isSameVersion, isStrong, type RemoteIdentity } from './identity.ts'
import { type Ask, Remote, type RemoteFile, type Reply, UnusableRangeError } from './remote.ts'

/** A file on a server, whether in one piece or in several. */
export interface RemoteLike {
  get(ask?: Ask): Promise<Reply>
}

export function remoteOf(source: ResolvedSource, options: HttpOptions): RemoteLike {
  return source.pieces ? new Pieces(source, source.pieces, options) : new Remote(source, options)
}

interface Piece {
  readonly remote: Remote
  readonly identity: RemoteIdentity
  readonly start: number
  readonly end: number
}

class Pieces implements RemoteLike {
  readonly #source: ResolvedSource
  readonly #remotes: readonly Remote[]
  #known: Promise<readonly Piece[]> | undefined

  constructor(source: ResolvedSource, pieces: readonly ResolvedSource[], options: HttpOptions) {
    this.#source = source
    this.#remotes = pieces.map((piece) => new Remote(piece, options))
  }

  async get(ask: Ask = {}): Promise<Reply> {
    const pieces = await this.#pieces()
    const identity = this.#identityOf(pieces)
    if (ask.known !== undefined && isSameVersion(ask.known, identity)) return { kind: 'unchanged' }
    const start = ask.range?.start ?? 0
    const piece = pieces.find(({ end }) => start < end)
    if (piece === undefined) return { kind: 'changed' }
    const end = Math.min(piece.end, ask.range?.end ?? piece.end)
    const range = { start: start - piece.start, end: end - piece.start }
    // On what condition is for the pieces themselves to say: the whole's own tag is ours, and no server knows it.
    const reply = await piece.remote.get({ range, signal: ask.signal })
    if (reply.kind !== 'file') return reply
    const { file } = reply
    // Without ranges a piece comes from its first byte. What came before would be joined to it at the wrong place.
    if (file.offset !== range.start) {
      file.discard()
      throw new UnusableRangeError()
    }
    if (!isSameVersion(piece.identity, file.identity) && !isWithoutWords(piece.identity)) {
      file.discard()
      this.#known = undefined
      return { kind: 'changed' }
    }
    return { kind: 'file', file: asPart(file, piece, identity) }
  }

  /** Sizes and validators, asked for by the first byte of each. */
  #pieces(): Promise<readonly Piece[]> {
    this.#known ??= this.#askAll().catch((error: unknown) => {
      this.#known = undefined
      throw error
    })
    return this.#known
  }

  async #askAll(): Promise<readonly Piece[]> {
    const pieces: Piece[] = []
    for (const remote of this.#remotes) {
      const reply = await remote.get({ range: { start: 0, end: 1 } })
      if (reply.kind !== 'file') throw new Error('a request without a condition was answered by one')
      reply.file.discard()
      const { identity } = reply.file
      const start = pieces.at(-1)?.end ?? 0
      pieces.push({ remote, identity, start, end: start + (identity.bytes ?? 0) })
    }
    return pieces
  }

  #identityOf(pieces: readonly Piece[]): RemoteIdentity {
    const { sha256 } = this.#source
    const bytes = pieces.at(-1)?.end ?? 0
    const tags = pieces.map(({ identity }) => identity.sha256 ?? (isStrong(identity.etag) ? identity.etag : undefined))
    const isTagged = tags.every((tag) => tag !== undefined)
    const etag = `"${createHash('sha256').update(tags.join('\n')).digest('hex')}"`
    return { bytes, ...(isTagged && { etag }), ...(sha256 !== undefined && { sha256 }) }
  }
}

/** Nothing says of which version an answer is. */
function isWithoutWords({ sha256, etag, lastModified }: RemoteIdentity): boolean {
  return sha256 === undefined && etag === undefined && lastModified === undefined
}

function asPart(file: RemoteFile, piece: Piece, identity: RemoteIdentity): RemoteFile {
  const end = piece.start + (file.end ?? piece.end - piece.start)
  return { ...file, identity, offset: piece.start + file.offset, end, hasRanges: true }
}
