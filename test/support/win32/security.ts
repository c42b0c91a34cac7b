// What a security descriptor lets whom do.
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { askForeign } from './foreign.ts'

// Winnt.h
export const DELETE = 0x0001_0000
export const WRITE_DAC = 0x0004_0000
export const WRITE_OWNER = 0x0008_0000
export const SYNCHRONIZE = 0x0010_0000
export const MUTEX_MODIFY_STATE = 0x0001
export const MUTEX_ALL_ACCESS = 0x001f_0001
export const FILE_READ_DATA = 0x0001
export const FILE_WRITE_DATA = 0x0002
export const FILE_ADD_FILE = 0x0002
export const FILE_DELETE_CHILD = 0x0040

// Sddl.h
const letters: Record<string, number> = { FA: 0x001f_01ff, FR: 0x0012_0089, FW: 0x0012_0116, FX: 0x0012_00a0 }

/** What the access control entries of an SDDL text allow a trustee on the thing itself. */
export function allowed(sddl: string, trustee: string): number {
  let rights = 0
  for (const [, type, flags = '', mask = '', who] of sddl.matchAll(/\((\w+);(\w*);(\w*);[^;]*;[^;]*;([^)]+)\)/g)) {
    if (type !== 'A' || who !== trustee || flags.includes('IO')) continue
    rights |= letters[mask] ?? Number(mask)
  }
  return rights
}

function keepsFileSecurity(): boolean {
  if (process.platform !== 'win32') return true
  const path = join(tmpdir(), `os-mutex-security-${process.pid}`)
  try {
    askForeign('guarded-file', path, 'D:P(A;;FA;;;BA)(A;;0x0012019F;;;WD)')
    return allowed(askForeign('file-security', path), 'WD') === 0x0012_019f
  } finally {
    rmSync(path, { force: true })
  }
}

/** Options of a test that reads the security descriptor of a file. */
export function withFileSecurity(): { skip?: string } {
  if (process.platform !== 'win32') return { skip: 'Windows only' }
  return keepsFileSecurity()
    ? {}
    : { skip: 'this system keeps no security descriptors of files (Wine: only a Unix mode)' }
}
