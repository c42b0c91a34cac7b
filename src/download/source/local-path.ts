// Which file of this machine a path means, the same for everything that takes one.
import { statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { homeFolder } from '../disk/home-folder.ts'
import { invalidSource, redacted } from '../errors.ts'

/** Whether a source is written as a path. `models/m.gguf` is not: it may be words for something else. */
export function isPath(text: string): boolean {
  return /^(file:|\.{0,2}[/\\]|[a-z]:[/\\]|~[/\\])/i.test(text) || (isBareName(text) && /\.gguf$/i.test(text))
}

/** A name without a folder. */
export function isBareName(text: string): boolean {
  return !/[/\\:]/.test(text) && !/^\.{0,2}$/.test(text)
}

/**
 * The absolute path of a model that the caller names: by a bare name, in `modelsDirectory`; by `~/…`, in the home
 * folder; by a `file:` URL; by any other path, from the working folder. The file need not exist.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_INVALID_SOURCE`
 */
export function modelPathOf(text: string, modelsDirectory: string): string {
  if (/^file:/i.test(text)) return pathOfUrl(text)
  if (/^~[/\\]/.test(text)) {
    const home = homeFolder()
    if (home !== undefined) return join(home, text.slice(2))
    throw invalidSource(`${redacted(text)} leads to a home folder, and this user has none; write the whole path`)
  }
  return isBareName(text) ? resolve(modelsDirectory, text) : resolve(text)
}

function pathOfUrl(text: string): string {
  try {
    return fileURLToPath(text)
  } catch {
    throw invalidSource(`Not the URL of a file on this machine: ${redacted(text)}; write file:///folder/model.gguf`)
  }
}

export function isFileThere(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isFile() === true
  } catch {
    return false
  }
}
