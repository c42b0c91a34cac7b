// Which mutex guards what. A process that needs several takes them in this order and in no other, so that no two
// processes can wait for each other:
//
//   1. Backend    one build or clone of llama.cpp at a time (a name for the whole machine)
//   2. Download   one download of a file at a time (named by where the file will be)
//   3. Model      one load of a file at a time (named by where the file really is)
//   4. Device     one estimate-and-load per GPU at a time (named by the device; several are taken in order of their names)
//
// A download's lock is released before the load of that file begins, so that other processes get the file meanwhile.
import { createHash } from 'node:crypto'
import { filePlatform } from '../download/disk/platform.ts'

export function backendMutexName(prefix: string): string {
  return `Global\\${prefix}_Backend`
}

/** `path` is the file's future place, with all links in its folder followed. */
export function downloadMutexName(prefix: string, path: string): string {
  return `Global\\${prefix}_Download_${fingerprint(filePlatform.pathKey(path))}`
}

/** `path` is an existing file's real path. */
export function modelMutexName(prefix: string, path: string): string {
  return `Global\\${prefix}_Model_${fingerprint(filePlatform.pathKey(path))}`
}

/** `device` is the name its driver gives it: two cards of one model share a mutex, which costs time and not safety. */
export function deviceMutexName(prefix: string, device: string): string {
  return `Global\\${prefix}_Device_${fingerprint(device)}`
}

/** Paths may be longer than a mutex name may be, and hold backslashes, which it may not. */
function fingerprint(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}
