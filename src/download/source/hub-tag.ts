// Which file of a repository a tag leads to: how the hub says it, and the note in the models folder that keeps it, so
// that a file that is there is found without asking again.
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { draftPath, hubNotePath } from '../disk/file-names.ts'
import { randomId, readSmallJson, removeQuietly, writeNewDurably } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import { fittedFileName } from './file-name.ts'
import { type HubTag, hubFileName, parseHubPath } from './hub.ts'
import type { TagRequest } from './resolve.ts'

/** A path within the repository. */
export type HubPath = readonly [string, ...string[]]

/**
 * Which file the hub has named earlier, if any. `anyHub`: also by the word of another host of the hub, for a caller who
 * can't ask this one.
 */
export async function recallTag(
  { tag, hub }: TagRequest,
  modelsDirectory: string,
  { anyHub = false }: { readonly anyHub?: boolean } = {},
): Promise<HubPath | undefined> {
  const note = await readSmallJson(notePath(tag, modelsDirectory))
  if (note?.version !== 1 || !(anyHub || note.endpoint === hub)) return undefined
  return parseHubPath(note.file)
}

/** Keeps the hub's word. A note that can't be written costs a question the next time, and no more. */
export async function keepTag(
  { tag, hub }: TagRequest,
  path: HubPath,
  modelsDirectory: string,
  signal?: AbortSignal,
): Promise<void> {
  const destination = notePath(tag, modelsDirectory)
  const draft = draftPath(destination, randomId())
  const note = JSON.stringify({ version: 1, endpoint: hub, file: path.join('/') })
  try {
    await mkdir(dirname(destination), { recursive: true })
    await writeNewDurably(draft, note)
    await filePlatform.replace(draft, destination, signal)
  } catch {
    await removeQuietly(draft)
  }
}

/** The file that the hub's answer names. https://github.com/ggml-org/llama.cpp/pull/11195 */
export function fileInAnswer(text: string): HubPath | undefined {
  try {
    return parseHubPath((JSON.parse(text) as { ggufFile?: { rfilename?: unknown } | null } | null)?.ggufFile?.rfilename)
  } catch {
    return undefined
  }
}

function notePath({ user, repo, tag }: HubTag, modelsDirectory: string): string {
  const name = hubFileName({ user, repo, revision: 'main', path: [`${repo}.${tag}`] })
  return hubNotePath(join(modelsDirectory, fittedFileName(name)))
}
