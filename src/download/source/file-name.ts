// Which names a model file may have.
import { invalidSource } from '../errors.ts'

// The same rule on every system, so that a models folder can move between them. The length leaves room for the suffix
// of a partial within the 255 bytes that file systems allow. For Windows see
// https://learn.microsoft.com/windows/win32/fileio/naming-a-file: some names lead to a device in whatever folder and with
// whatever extension, and one like MODEL~1.GGU may lead to the file of a longer name.
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
