// Redraws a block of lines in place. No library: cli-progress draws bars only, and all alike; log-update 8 would serve, but
// not on Node 20, and what it would do here are four escape sequences (ECMA-48, and DEC's for the cursor).
import { atExit } from './at-exit.ts'

const HIDE_CURSOR = '\x1b[?25l'
const SHOW_CURSOR = '\x1b[?25h'
const CLEAR_LINE_END = '\x1b[K'
const CLEAR_BELOW = '\x1b[J'
const CLEAR_ALL = '\x1b[H\x1b[2J'

export class Terminal {
  readonly #stream: NodeJS.WriteStream
  /** How many lines of the block stand above the cursor. */
  #height = 0
  #closed = false

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream
    stream.write(HIDE_CURSOR)
    // A terminal that has become narrower has wrapped the lines: where the block begins is unknown then.
    stream.on('resize', () => {
      if (!this.#closed) stream.write(CLEAR_ALL)
      this.#height = 0
    })
    atExit(() => this.close())
  }

  /** Short of the last column and row, where terminals differ in when they wrap and scroll. */
  get columns(): number {
    return (this.#stream.columns || 80) - 1
  }

  get rows(): number {
    return (this.#stream.rows || 24) - 1
  }

  /** The lines must fit. One write, so that no half drawn block is ever seen. */
  draw(lines: readonly string[]): void {
    const text = lines.map((line) => `${line}${CLEAR_LINE_END}\n`).join('')
    this.#stream.write(`${this.#top()}${text}${CLEAR_BELOW}`)
    this.#height = lines.length
  }

  /** Takes the block away and gives the cursor back. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#stream.write(`${this.#top()}${CLEAR_BELOW}${SHOW_CURSOR}`)
  }

  #top(): string {
    return this.#height === 0 ? '' : `\r\x1b[${this.#height}A`
  }
}
