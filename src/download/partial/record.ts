// The record of a partial: what its bytes belong to, and which of them are there. One file, of a fixed shape:
//
//   0      "os-mutex partial\n", JSON, a newline, zeros: written once, before the first byte of the partial
//   4096   two copies of the map, written in turn (extent-map.ts)
//
// What a resumed byte is worth: after a kill the page cache has every byte that was written. After a power loss it need
// not: a file may have the right size and zeros in it. So bytes written before a reboot are resumed only if a SHA-256 of
// the whole file is known, which then decides. Without a SHA-256 there is also no defence against a server or a disk that
// alters bytes silently.
import { open } from 'node:fs/promises'
import type { RemoteIdentity } from '../http/identity.ts'
import { decodeMap, encodeMap, mapBytes } from './extent-map.ts'
import { Extents } from './extents.ts'

export interface PartialRecord extends RemoteIdentity {
  readonly version: number
  /** Of a `mirror`, a copy of a file that is here, nothing is resumed; nor of a `group`, a folder of files. */
  readonly kind: 'download' | 'mirror' | 'group'
  /** Where the bytes come from, for people. */
  readonly source: string
  /** `ResolvedSource.key`. */
  readonly sourceKey: string
  /** `ResolvedSource.placeKey`. */
  readonly placeKey?: string
  /** The boot of the machine in which the bytes were written. */
  readonly bootId: string
}

const magic = 'os-mutex partial\n'
export const headBytes = 4096
const recordBytes = headBytes + mapBytes
const encoder = new TextEncoder()

/** What is kept of a source's words: a URL may be longer than the record. */
const mostSourceLength = 400

/** The whole file. */
export function encodeRecord(record: PartialRecord, extents: Extents): Buffer {
  const file = Buffer.alloc(recordBytes)
  const source = record.source.slice(0, mostSourceLength)
  const head = encoder.encode(`${magic}${JSON.stringify({ ...record, source })}\n`)
  if (head.length > headBytes) throw new Error(`what is known of ${source} takes more than ${headBytes} bytes`)
  file.set(head)
  const { copy, offset } = encodeMap(extents, 0)
  file.set(copy, headBytes + offset)
  return file
}

/** The record and the map of a file with this content; `undefined` if it is none of ours. */
export function decodeRecord(file: Buffer): { record: PartialRecord; extents: Extents; sequence: number } | undefined {
  const end = file.indexOf('\n', magic.length)
  if (file.toString('latin1', 0, magic.length) !== magic || end < 0) return undefined
  const record = parseHead(file.toString('utf8', magic.length, end))
  if (!record) return undefined
  const map = decodeMap(file.subarray(headBytes), record.bytes ?? Number.MAX_SAFE_INTEGER)
  return { record, extents: map?.extents ?? new Extents(), sequence: map?.sequence ?? 0 }
}

/** A later version may add fields. */
function parseHead(text: string): PartialRecord | undefined {
  let value: Record<string, unknown>
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  const optional = (name: string, type: string) => value[name] === undefined || typeof value[name] === type
  const isRecord =
    typeof value?.version === 'number' &&
    value.version >= 1 &&
    (value.kind === 'download' || value.kind === 'mirror' || value.kind === 'group') &&
    typeof value.source === 'string' &&
    typeof value.sourceKey === 'string' &&
    typeof value.bootId === 'string' &&
    optional('bytes', 'number') &&
    optional('etag', 'string') &&
    optional('sha256', 'string') &&
    optional('lastModified', 'string') &&
    optional('isSettled', 'boolean') &&
    optional('placeKey', 'string')
  return isRecord ? (value as unknown as PartialRecord) : undefined
}

/** `empty`: whoever made it has not come as far as locking it. `undefined`: none, or none of ours. */
export async function readRecord(path: string): Promise<ReturnType<typeof decodeRecord> | 'empty'> {
  const handle = await open(path, 'r').catch(() => undefined)
  if (handle === undefined) return undefined
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(recordBytes), 0, recordBytes, 0)
    return bytesRead === 0 ? 'empty' : decodeRecord(buffer.subarray(0, bytesRead))
  } catch {
    return undefined
  } finally {
    await handle.close()
  }
}
