import { styleText } from 'node:util'

export type Colour = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan' | 'magenta'
export type Paint = (colour: Colour, text: string) => string

/** Colours where there is a terminal that wants them; `NO_COLOR` is heeded by `hasColors`. */
export function paintFor(stream: NodeJS.WriteStream): Paint {
  return stream.isTTY && stream.hasColors() ? (colour, text) => styleText(colour, text) : (_, text) => text
}
