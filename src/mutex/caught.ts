// What was thrown, whoever threw it. In Jest and in `node:vm` an error of Node's own is no instance of the `Error` that code there
// sees.
import { types } from 'node:util'

export function isError(value: unknown): value is Error {
  return types.isNativeError(value) || value instanceof Error
}

export function messageOf(value: unknown): string {
  return isError(value) ? value.message : String(value)
}

/** Of a system or network call, such as `ENOENT`. */
export function codeOf(value: unknown): string | undefined {
  const code: unknown = isError(value) ? (value as NodeJS.ErrnoException).code : undefined
  return typeof code === 'string' ? code : undefined
}
