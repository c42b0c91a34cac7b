// A folder of its own for a download test, with a payload that is a GGUF but is not meant to be loaded.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { decodeRecord, type Extents, encodeRecord, holdFile, type PartialRecord } from './download-internals.ts'
import { ModelServer, type ModelServerOptions } from './model-server.ts'
import { text, u32, u64 } from './tiny-gguf.ts'

export interface Payload {
  readonly path: string
  readonly bytes: number
  readonly sha256: string
}

export interface DownloadFolder {
  /** Where models are published: nothing else is in it. */
  readonly models: string
  readonly destination: string
  readonly server: ModelServer
  payload(bytes: number): Payload
  /** Names in `models`, sorted. */
  list(): string[]
}

/** All that a published `model.gguf` leaves. */
export const published = ['.model.gguf.os-mutex.json', 'model.gguf']

export async function openDownloadFolder(t: TestContext, options?: ModelServerOptions): Promise<DownloadFolder> {
  const root = mkdtempSync(join(tmpdir(), 'os-mutex-download-'))
  const server = await ModelServer.start(options)
  t.after(async () => {
    await server.close()
    // On Windows a name is gone when the last handle to the file is, and those of a stream or a killed process go a moment late.
    await rm(root, { recursive: true, force: true, maxRetries: 6 })
  })
  const models = join(root, 'models')
  let payloads = 0
  return {
    models,
    destination: join(models, 'model.gguf'),
    server,
    payload: (bytes) => writePayload(join(root, `payload-${payloads++}`), bytes),
    list: () => readdirSync(models).sort(),
  }
}

/** A GGUF of exactly so many bytes, 97 or more: one key, and one tensor of random bytes (type I8) that begins at byte 96. */
function writePayload(path: string, bytes: number): Payload {
  const header = Buffer.concat([
    ...[Buffer.from('GGUF'), u32(3), u64(1), u64(1)],
    ...[text('general.alignment'), u32(4), u32(32)],
    ...[text('content'), u32(1), u64(bytes - 96), u32(24), u64(0)],
  ])
  const content = randomBytes(bytes)
  header.copy(content)
  writeFileSync(path, content)
  return { path, bytes, sha256: createHash('sha256').update(content).digest('hex') }
}

export function sha256Of(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

/** The model is the payload, and all that is in its folder is what it leaves. */
export function assertPublished(folder: DownloadFolder, file: Payload): void {
  assert.equal(sha256Of(folder.destination), file.sha256)
  assert.deepEqual(folder.list(), published)
}

export interface FoundPartial {
  /** Of the data. */
  readonly path: string
  readonly recordPath: string
  /** How many bytes of the file are there, by the record's map. */
  readonly bytes: number
  readonly record: PartialRecord
  readonly extents: Extents
  /** Whether a process writes it: by the kernel's word. */
  readonly isHeld: boolean
}

/** The partials in a folder, with their records. */
export function partialsIn(models: string): FoundPartial[] {
  if (!existsSync(models)) return []
  return readdirSync(models)
    .filter((name) => name.endsWith('.os-mutex-partial'))
    .map((name) => partialAt(join(models, name)))
    .filter((partial) => partial !== undefined)
}

function partialAt(path: string): FoundPartial | undefined {
  const recordPath = `${path}-record`
  const found = existsSync(recordPath) ? decodeRecord(readFileSync(recordPath)) : undefined
  return found && { path, recordPath, bytes: found.extents.bytes, ...found, isHeld: isHeld(recordPath) }
}

function isHeld(recordPath: string): boolean {
  const hold = holdFile(recordPath)
  if (typeof hold === 'string') return hold === 'taken'
  hold.release()
  return false
}

/** Writes other things into a partial's record than its owner has. */
export function editRecord({ recordPath, record, extents }: FoundPartial, changes: Record<string, unknown>): void {
  writeFileSync(recordPath, encodeRecord({ ...record, ...changes } as PartialRecord, extents))
}

/** Waits for something that only the file system shows. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(2)
}
