import { lstatSync, mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

// On Windows everybody may make junctions, but not symbolic links.
const type = process.platform === 'win32' ? 'junction' : 'dir'

/** Makes `path` lead to the directory `target`. */
export function linkDirectory(target: string, path: string): void {
  symlinkSync(target, path, type)
  if (!lstatSync(path).isSymbolicLink()) throw new Error(`No link was made at ${path}`)
}

function whyNot(): string | undefined {
  const [target, link] = ['target', 'link'].map((what) => join(tmpdir(), `os-mutex-${what}-${process.pid}`))
  if (target === undefined || link === undefined) return undefined
  mkdirSync(target)
  try {
    linkDirectory(target, link)
    return undefined
  } catch (error) {
    return `this system makes no links to directories, as Wine before version 9 (${(error as NodeJS.ErrnoException).code})`
  } finally {
    for (const path of [link, target]) rmSync(path, { recursive: true, force: true })
  }
}

const reason = whyNot()

/** Options of a test that needs a link to a directory. */
export const withLinks = reason === undefined ? {} : { skip: reason }
