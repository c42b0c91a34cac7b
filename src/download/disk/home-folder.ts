import { homedir } from 'node:os'

/** `undefined` for a user without `HOME` and without an entry in the system's list of users, as in some containers. */
export function homeFolder(): string | undefined {
  try {
    return homedir() || undefined
  } catch {
    return undefined
  }
}
