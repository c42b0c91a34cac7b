// Files that came whole and are wrong: the beginning of each is kept, with the reason, so that somebody can look at what the
// server sent. One for each model, until a right one is published or `prune` is called. All of it would only fill the disk.
//
// A line of JSON, then the first bytes as they came.
import { type FileHandle, open, readdir, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { ownNameOf, rejectedPath } from '../disk/file-names.ts'
import { randomId, removeQuietly } from '../disk/files.ts'

export interface Rejection {
  /** For people. */
  readonly reason: string
  /** Where it came from, without credentials and query. */
  readonly source: string
  readonly sha256: string
  readonly bytes: number
}

const keptBytes = 64 * 1024
const mostLineBytes = 4096

/** Keeps the beginning of an open file. Returns where, or `undefined` where it can't be written. */
export async function keepHead(
  file: FileHandle,
  destination: string,
  rejection: Rejection,
): Promise<string | undefined> {
  await dropRejected(destination)
  const path = rejectedPath(destination, randomId())
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(keptBytes), 0, keptBytes, 0)
    const line = Buffer.from(`${JSON.stringify({ version: 1, ...rejection, rejectedAt: Date.now() })}\n`)
    await writeFile(path, Buffer.concat([line, buffer.subarray(0, bytesRead)]), { flag: 'wx' })
    return path
  } catch {
    await removeQuietly(path)
    return undefined
  }
}

/** Never fails: what stays is in nobody's way. */
export async function dropRejected(destination: string): Promise<void> {
  const folder = dirname(destination)
  for (const name of await readdir(folder).catch(() => [])) {
    const own = ownNameOf(name)
    const isOne = own?.kind === 'rejected' && own.destination === basename(destination)
    if (isOne && (await isRejection(join(folder, name)))) await removeQuietly(join(folder, name))
  }
}

/** Whether the file is one of these, and not only called so. */
export async function isRejection(path: string): Promise<boolean> {
  const handle = await open(path, 'r').catch(() => undefined)
  if (handle === undefined) return false
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(mostLineBytes), 0, mostLineBytes, 0)
    const line = buffer.subarray(0, bytesRead)
    const value: unknown = JSON.parse(line.toString('utf8', 0, line.indexOf('\n')))
    return typeof (value as { rejectedAt?: unknown } | null)?.rejectedAt === 'number'
  } catch {
    return false
  } finally {
    await handle.close()
  }
}
