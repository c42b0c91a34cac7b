// Every name that we give to a file of ours. They are frozen: a format that changes gets another suffix, so that an
// older version of this package neither reads nor removes it.
//
//   model.gguf                                     a published model
//   .model.gguf.os-mutex.json                      its manifest (published/manifest.ts)
//   .model.gguf.os-mutex.json.<id>                 a draft of that
//   .model.os-mutex-group.json                     what belongs together (published/group.ts)
//   model.gguf.<id>.os-mutex-partial               bytes of an unpublished download, or of a copy (partial/claim.ts)
//   model.gguf.<id>.os-mutex-partial-record        what they are, and which are there; locked by whoever writes them
//   model.gguf.<id>.os-mutex-partial-lock          the lock, where one on the record would keep others from reading it
//   model.gguf.<id>.os-mutex-rejected              the beginning of a file that was wrong, and why (partial/rejected.ts)
//   .<tag>.os-mutex-hub.json                       which file a tag of the hub leads to (source/hub-tag.ts)
//   .locks/model.gguf                              the folder's lock for its download
//
// <id>: eight hexadecimal digits, random, never used twice.
import { basename, dirname, join } from 'node:path'

export interface PartialPaths {
  readonly data: string
  readonly record: string
  readonly lock: string
}

const data = '.os-mutex-partial'
const record = '.os-mutex-partial-record'
const lock = '.os-mutex-partial-lock'
const rejected = '.os-mutex-rejected'
const manifest = '.os-mutex.json'
const group = '.os-mutex-group.json'
const hubNote = '.os-mutex-hub.json'

export function partialPaths(destination: string, id: string): PartialPaths {
  const stem = `${destination}.${id}`
  return { data: stem + data, record: stem + record, lock: stem + lock }
}

export function rejectedPath(destination: string, id: string): string {
  return `${destination}.${id}${rejected}`
}

export function manifestPath(destination: string): string {
  return hidden(destination, manifest)
}

export function groupPath(destination: string): string {
  return hidden(destination, group)
}

/** The name of the first part that a group's note of this name is of. */
export function firstPartOf(name: string): string | undefined {
  return name.startsWith('.') && name.endsWith(group) ? name.slice(1, -group.length) : undefined
}

export function hubNotePath(destination: string): string {
  return hidden(destination, hubNote)
}

/** A name for what is to replace `path`. */
export function draftPath(path: string, id: string): string {
  return `${path}.${id}`
}

export type OwnName =
  /** `destination`: the name of the file that it is to become, in the same folder. */
  | { readonly kind: 'partial' | 'record' | 'lock' | 'rejected'; readonly destination: string; readonly id: string }
  | { readonly kind: 'draft'; readonly id: string }

const suffixed = /^(.+)\.([0-9a-f]{8})(\.os-mutex-(?:partial|partial-record|partial-lock|rejected))$/s
const drafted = /^\..+\.os-mutex(?:-group|-hub)?\.json\.([0-9a-f]{8})$/s
const kinds = { [data]: 'partial', [record]: 'record', [lock]: 'lock', [rejected]: 'rejected' } as const

/** Which of the names above that may be left behind this is, without a look at the file. */
export function ownNameOf(name: string): OwnName | undefined {
  const [, destination = '', id = '', suffix = ''] = suffixed.exec(name) ?? []
  if (suffix !== '') return { kind: kinds[suffix as keyof typeof kinds], destination, id }
  const [, draftId] = drafted.exec(name) ?? []
  return draftId === undefined ? undefined : { kind: 'draft', id: draftId }
}

function hidden(destination: string, suffix: string): string {
  return join(dirname(destination), `.${basename(destination)}${suffix}`)
}
