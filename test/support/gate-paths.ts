// Other ways to write a path that lead to the same file on the system of the test.
import { basename, dirname, join, sep } from 'node:path'

function swapCase(text: string): string {
  return text.replace(/[a-z]/gi, (letter) => (letter < 'a' ? letter.toLowerCase() : letter.toUpperCase()))
}

/** `path` is absolute and real. */
export function otherNames(path: string): string[] {
  const roundabout = [
    join(dirname(path), '..', basename(dirname(path)), '.', basename(path)),
    dirname(path) + sep + sep + basename(path),
  ]
  if (process.platform !== 'win32') return roundabout
  return [
    ...roundabout,
    path.replaceAll('\\', '/'),
    swapCase(path),
    `\\\\?\\${path}`,
    swapCase(path).replaceAll('\\', '/'),
  ]
}
