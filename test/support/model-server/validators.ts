// How an answer says which version of the file it carries (RFC 9110, 8.8).
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { byAnswer, type ServedFile } from './served-file.ts'

export interface Validators {
  readonly etag: string | undefined
  /** In whole seconds, as the header has it. */
  readonly lastModified: Date | undefined
  /** `undefined`: the answer has no Date. */
  readonly date: Date | undefined
}

/** Of the answer with this number. */
export function validatorsOf(served: ServedFile, answer: number): Validators {
  const { etag, lastModified, date } = served
  const modified = lastModified === undefined ? undefined : byAnswer(lastModified, answer)
  return {
    etag: etag === undefined ? contentEtag(served.file) : (byAnswer(etag, answer) ?? undefined),
    lastModified: modified && wholeSeconds(modified),
    date: date === null ? undefined : wholeSeconds(date ?? new Date()),
  }
}

function wholeSeconds(date: Date): Date {
  return new Date(Math.floor(date.getTime() / 1000) * 1000)
}

const etags = new Map<string, string>()

function contentEtag(file: string): string {
  const { size, mtimeMs } = statSync(file)
  const key = `${file} ${size} ${mtimeMs}`
  let etag = etags.get(key)
  if (etag === undefined) {
    etag = `"${createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 32)}"`
    etags.set(key, etag)
  }
  return etag
}
