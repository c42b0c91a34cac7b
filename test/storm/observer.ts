// Looks at published models all the time, in a thread of its own, and reports what it finds under their names.
//
// A split model it reads as a program does that has got a path: first it learns where the parts are and what they should be,
// from the group's note or from what `ensureModel` has answered, then it reads one part after the other, with pauses in which
// others publish. It comes back to each place that it has ever learnt of: what once was published there stays as it is.
import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

export interface Sight {
  /** Of the model: of its first part in the models folder. */
  readonly path: string
  /** Where the first part is that was read. */
  readonly at: string
  /** Of all bytes that were there at one moment: an open file stays the one that it was, whatever gets its name. */
  readonly sha256: string
  /** Of each part of a split model, in order. `undefined`: it was not there. */
  readonly parts?: readonly (string | undefined)[]
  /** What the parts should be, by who said where they are. */
  readonly expected?: readonly string[]
  readonly bytes: number
}

/** A model to be looked at: the path of its file, or of the first part, and how many parts it has. */
export interface Subject {
  readonly path: string
  readonly parts: number
}

/** Where the parts of a split model are, and their hashes. */
export interface Place {
  readonly path: string
  readonly parts: readonly { readonly path: string; readonly sha256: string }[]
}

interface Looked {
  readonly looks: number
}

export class Observer {
  readonly #worker: Worker
  /** Rejects when the observer can't go on. */
  readonly failed: Promise<never>
  readonly #ended: Promise<number>

  /** Called with the first sight of each content of each path, and with each that is not what it should be. */
  constructor(subjects: readonly Subject[], onSight: (sight: Sight) => void) {
    this.#worker = new Worker(new URL(import.meta.url), { workerData: subjects })
    this.#ended = new Promise((resolve, reject) => {
      this.#worker.on('message', (message: Sight | Looked) => {
        if ('looks' in message) resolve(message.looks)
        else onSight(message)
      })
      this.#worker.once('error', (error) =>
        reject(new Error(`the observer failed: ${error.message}`, { cause: error })),
      )
      this.#worker.once('exit', () => reject(new Error('the observer ended by itself')))
    })
    this.#ended.catch(() => {})
    this.failed = new Promise((_, reject) => this.#ended.catch(reject))
    this.failed.catch(() => {})
  }

  /** Somebody was told that a split model is there. */
  learn(place: Place): void {
    this.#worker.postMessage(place)
  }

  /** After one more look at everything. Gives the number of looks that found a file. */
  async stop(): Promise<number> {
    this.#worker.postMessage('stop')
    return this.#ended
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }
}

/** Between two parts, or two looks: the processor is for those who download, too. */
const pauseMs = 5

const clockTickMs = 50

interface Content {
  readonly sha256: string
  readonly bytes: number
}

class Looks {
  count = 0
  isStopping = false
  readonly #subjects: readonly Subject[]
  readonly #places = new Map<string, Place>()
  readonly #seen = new Set<string>()
  readonly #hashed = new Map<string, Content>()

  constructor(subjects: readonly Subject[]) {
    this.#subjects = subjects
  }

  learn(place: Place): void {
    const at = place.parts[0]?.path ?? ''
    const known = this.#places.get(at)
    this.#places.set(at, place)
    if (known === undefined || isSame(known, place)) return
    // Said of one place at different times, and both are promised to be true as long as nobody has pruned it.
    const [expected, parts] = [known, place].map((said) => said.parts.map(({ sha256 }) => sha256))
    this.#report({ path: place.path, at, sha256: '', parts: parts ?? [], expected: expected ?? [], bytes: 0 })
  }

  async atAll(): Promise<void> {
    for (let isLast = false; !isLast; await sleep(pauseMs)) {
      isLast = this.isStopping
      for (const { path, parts } of this.#subjects) {
        if (parts === 1) this.#look(path)
        else {
          const noted = readNote(path)
          if (noted) this.learn(noted)
        }
      }
      for (const place of this.#places.values()) await this.#lookAtParts(place)
    }
  }

  #look(path: string): void {
    const found = this.#contentOf(path)
    if (found === undefined) return
    this.count++
    this.#report({ path, at: path, ...found })
  }

  async #lookAtParts({ path, parts }: Place): Promise<void> {
    const found: (string | undefined)[] = []
    let bytes = 0
    for (const part of parts) {
      const content = this.#contentOf(part.path)
      found.push(content?.sha256)
      bytes += content?.bytes ?? 0
      await sleep(pauseMs)
    }
    this.count++
    const expected = parts.map(({ sha256 }) => sha256)
    this.#report({ path, at: parts[0]?.path ?? '', sha256: found.join(' '), parts: found, expected, bytes })
  }

  /** What is hashed already and was not touched since need not be hashed again, and the next look comes the sooner. */
  #contentOf(path: string): Content | undefined {
    const file = opened(path)
    if (file === undefined) return undefined
    try {
      const { dev, ino, size, mtimeNs, ctimeNs } = fstatSync(file, { bigint: true })
      const key = [dev, ino, size, mtimeNs, ctimeNs].join(' ')
      const known = this.#hashed.get(key)
      if (known !== undefined) return known
      const content = readFileSync(file)
      const found = { sha256: createHash('sha256').update(content).digest('hex'), bytes: content.length }
      // By a clock that ticks so often: what is changed in the tick of its last change looks the same.
      if (BigInt(Date.now() - clockTickMs) * 1_000_000n > ctimeNs) this.#hashed.set(key, found)
      return found
    } finally {
      closeSync(file)
    }
  }

  #report(sight: Sight): void {
    const key = [sight.at, sight.sha256, ...(sight.expected ?? [])].join('|')
    if (!this.#seen.has(key)) parentPort?.postMessage(sight)
    this.#seen.add(key)
  }
}

function isSame(one: Place, other: Place): boolean {
  return one.parts.every(({ path, sha256 }, index) => {
    const part = other.parts[index]
    return path === part?.path && sha256 === part.sha256
  })
}

/** Where the group's note says that its parts are. `undefined`: there is none, or not all of them have their names yet. */
function readNote(first: string): Place | undefined {
  const folder = dirname(first)
  const file = opened(join(folder, `.${basename(first)}.os-mutex-group.json`))
  if (file === undefined) return undefined
  const content = readFileSync(file, 'utf8')
  closeSync(file)
  const note = JSON.parse(content) as {
    folder?: string
    isPending?: boolean
    parts: { name: string; sha256: string }[]
  }
  if (note.isPending) return undefined
  const at = note.folder === undefined ? folder : join(folder, note.folder)
  return { path: first, parts: note.parts.map(({ name, sha256 }) => ({ path: join(at, name), sha256 })) }
}

/** `undefined`: it is not there. */
function opened(path: string): number | undefined {
  try {
    return openSync(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

if (!isMainThread && Array.isArray(workerData)) {
  const looks = new Looks(workerData as Subject[])
  parentPort?.on('message', (message: Place | 'stop') => {
    if (message === 'stop') looks.isStopping = true
    else looks.learn(message)
  })
  await looks.atAll()
  parentPort?.postMessage({ looks: looks.count } satisfies Looked)
  parentPort?.close()
}
