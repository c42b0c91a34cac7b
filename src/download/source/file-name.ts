// Which names a model file may have, and what its name says: a part of a split model, a piece that was cut by bytes.
import { createHash } from 'node:crypto'
import { invalidSource } from '../errors.ts'

// The same rule on every system, so that a models folder can move between them. The length leaves room for the suffix
// of a partial within the 255 bytes that file systems allow. For Windows see
// https://learn.microsoft.com/windows/win32/fileio/naming-a-file: some names lead to a device in whatever folder and
// with whatever extension, and one like MODEL~1.GGU may lead to the file of a longer name.
const maxFileNameBytes = 200
const deviceName = /^(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)/i
const shortName = /^(?=[^.]{1,8}(\.|$))[^.]*~\d+(\.[^.]{0,3})?$/

export function checkedFileName(name: string): string {
  const legal =
    typeof name === 'string' &&
    name !== '' &&
    name !== '.' &&
    name !== '..' &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it is there to refuse
    !/[\u0000-\u001f\u007f/\\:*?"<>|]|[. ]$/.test(name) &&
    !deviceName.test(name) &&
    !shortName.test(name) &&
    Buffer.from(name).toString() === name && // no lone surrogates
    Buffer.byteLength(name) <= maxFileNameBytes
  if (legal) return name
  const shown = typeof name === 'string' ? JSON.stringify(name.slice(0, 200)) : String(name)
  throw invalidSource(
    `${shown} cannot name a model file; give a \`fileName\` of 1 to ${maxFileNameBytes} bytes without / \\ : * ? " < > | ` +
      'or control characters, not . or .., not ending in a dot or a space, and nothing that means something else on Windows (CON, NUL.gguf, MODEL~1.GGU)',
  )
}

/** A name that a source has by itself. One that is too long is shortened, by the same rule each time. */
export function fittedFileName(name: string): string {
  const [stem, tail] = stemAndTail(name)
  return checkedFileName(fitted(stem, tail))
}

/** Another name for the same file, where another source has the first one: `<stem>.<suffix>.gguf`. */
export function distinctFileName(name: string, suffix: string): string {
  const [stem, tail] = stemAndTail(name)
  return fitted(stem, `.${suffix}${tail}`)
}

/** Two long names with one beginning stay two names: what is cut off is told apart by its hash. */
function fitted(stem: string, tail: string): string {
  const room = maxFileNameBytes - Buffer.byteLength(tail)
  if (Buffer.byteLength(stem) <= room) return stem + tail
  const mark = `-${createHash('sha256').update(stem).digest('hex').slice(0, 8)}`
  let kept = ''
  let bytes = Buffer.byteLength(mark)
  for (const character of stem) {
    bytes += Buffer.byteLength(character)
    if (bytes > room) break
    kept += character
  }
  return kept + mark + tail
}

/** The tail has to stay: llama.cpp finds the other parts by it, and programs know a model by its extension. */
function stemAndTail(name: string): [string, string] {
  const tail = /(?:-\d{5}-of-\d{5})?\.gguf$|(?<=.)\.\w{1,15}$/i.exec(name)?.[0] ?? ''
  return [name.slice(0, name.length - tail.length), tail]
}

/** What a name of the form `<stem>-00002-of-00003.gguf` says. */
export interface SplitName {
  readonly stem: string
  readonly part: number
  readonly count: number
}

/** As many as the names can count would be a mistake: the largest models have some dozens. */
const mostParts = 1000

/** `undefined` for the name of a file that is whole. `name` may be a path. */
export function splitName(name: string): SplitName | undefined {
  const [tail, part, count] = numbersOf(/-(\d{5})-of-(\d{5})\.gguf$/.exec(name))
  if (count < 2 || part < 1 || part > count) return undefined
  checkCount(name, count)
  return { stem: name.slice(0, name.length - tail.length), part, count }
}

export function partName({ stem, count }: SplitName, part: number): string {
  return `${stem}-${String(part).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.gguf`
}

/** The names of all parts of a split model, whichever of them is named; else the one name. `name` may be a path. */
export function partsOf(name: string): readonly [string, ...string[]] {
  const split = splitName(name)
  if (split === undefined) return [name]
  const rest = Array.from({ length: split.count - 1 }, (_, index) => partName(split, index + 2))
  return [partName(split, 1), ...rest]
}

/** A file that its publisher has cut by bytes. */
export interface CutName {
  /** The file's name once the pieces are joined: `model.gguf`. */
  readonly whole: string
  /** `model.gguf.part1of2`, `model.gguf.part2of2`. */
  readonly pieces: readonly [string, ...string[]]
}

/**
 * As node-llama-cpp reads such names, whichever piece is named. `undefined` for any other name. `name` may be a path.
 */
export function cutName(name: string): CutName | undefined {
  const match = /\.part(\d+)of(\d+)$/.exec(name)
  const [tail, part, count] = numbersOf(match)
  const whole = name.slice(0, name.length - tail.length)
  if (match === null || !whole.endsWith('.gguf') || count < 1 || part < 1 || part > count) return undefined
  checkCount(name, count)
  const digits = match[1]?.length ?? 0
  const pieceName = (piece: number) => `${whole}.part${String(piece).padStart(digits, '0')}of${match[2]}`
  const rest = Array.from({ length: count - 1 }, (_, index) => pieceName(index + 2))
  return { whole, pieces: [pieceName(1), ...rest] }
}

function numbersOf(match: RegExpExecArray | null): [string, number, number] {
  return [match?.[0] ?? '', Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)]
}

function checkCount(name: string, count: number): void {
  if (count <= mostParts) return
  const shown = JSON.stringify(name.split(/[/\\]/).at(-1)?.slice(0, 200))
  throw invalidSource(`${shown} would have ${count} parts; ${mostParts} is the limit`)
}
