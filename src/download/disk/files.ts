// The few file operations that downloads are made of, with errors that name the file and say what to do.
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, type PathLike, writeFileSync } from 'node:fs'
import { open, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, ModelDownloadError } from '../errors.ts'
import { partialPaths } from './file-names.ts'
import { syncHandle } from './sync.ts'

const notWritable = '; is it writable, and its folder?'
const advices: Readonly<Record<string, string>> = {
  // Node's permission model.
  ERR_ACCESS_DENIED:
    '; --permission forbids it: allow the folder (--allow-fs-read, --allow-fs-write). Node 26 syncs nothing under it',
  EACCES: notWritable,
  EPERM: notWritable,
  EROFS: notWritable,
  EBUSY: '; another process has it open and shares it with nobody',
}

/** Awaits a file operation; a failure becomes a `ModelDownloadError` that says what was being done to which file. */
export async function onDisk<T>(doing: string, path: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (cause) {
    const reason = errnoOf(cause)
    if (reason === 'ENOSPC' || reason === 'EDQUOT') {
      const message = `No space left while ${doing} ${path} (${reason}); free some and try again`
      throw new ModelDownloadError('ERR_MODEL_DISK_FULL', message, { path, cause })
    }
    const advice = (reason !== undefined && advices[reason]) || ''
    const message = `Failed ${doing} ${path} (${reason ?? String(cause)})${advice}`
    throw new ModelDownloadError('ERR_MODEL_FILE_SYSTEM', message, { path, cause })
  }
}

/** Whether something is there, also behind a link. */
export function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

/** Whether both names lead to one file. */
export async function isSameFile(path: string, other: string): Promise<boolean> {
  const look = (name: string) => stat(name, { bigint: true }).catch(() => undefined)
  const [one, two] = await Promise.all([look(path), look(other)])
  return one !== undefined && one.ino === two?.ino && one.dev === two.dev
}

/** Whether nothing can be written there, by this user or by anybody. */
export function isReadOnly(error: unknown): boolean {
  const code = errnoOf(error instanceof ModelDownloadError ? error.cause : error)
  return code === 'EROFS' || code === 'EACCES' || code === 'EPERM' || code === 'ERR_ACCESS_DENIED'
}

/** Removes a file; one that is gone already is as good. Other failures leave it: it is in nobody's way. */
export async function removeQuietly(path: string): Promise<void> {
  await unlink(path).catch(() => {})
}

/** Eight hexadecimal digits that make a name one's own. */
export function randomId(): string {
  return randomBytes(4).toString('hex')
}

/** Creates a file that must not exist yet and makes its bytes durable. Its name is durable once the folder is synced. */
export async function writeNewDurably(path: string, text: string): Promise<void> {
  // Created and written without a turn of the event loop between: a kill there would leave an empty file, of which
  // nobody could tell whose it is.
  const descriptor = openSync(path, 'wx')
  try {
    writeFileSync(descriptor, text)
    await syncFile(path)
  } catch (error) {
    await removeQuietly(path)
    throw error
  } finally {
    closeSync(descriptor)
  }
}

/** By a handle of its own: see sync.ts. */
async function syncFile(path: string): Promise<void> {
  const handle = await open(path, 'r+')
  try {
    await syncHandle(handle)
  } finally {
    await handle.close()
  }
}

const maxJsonBytes = 64 * 1024

/** Reads one of our small JSON files. `undefined` when it is absent, torn, foreign or absurdly large. */
export async function readSmallJson(path: PathLike): Promise<Record<string, unknown> | undefined> {
  const handle = await open(path, 'r').catch(() => undefined)
  if (!handle) return undefined
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(maxJsonBytes), 0, maxJsonBytes, 0)
    const value: unknown = JSON.parse(buffer.toString('utf8', 0, bytesRead))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  } finally {
    await handle.close()
  }
}

/** The time by the clock of the machine that keeps a folder; `undefined` where nothing can be written there. */
export async function serverTime(folder: string): Promise<number | undefined> {
  const path = partialPaths(join(folder, '.clock'), randomId()).record
  try {
    closeSync(openSync(path, 'wx'))
    return (await stat(path)).mtimeMs
  } catch {
    return undefined
  } finally {
    await removeQuietly(path)
  }
}
