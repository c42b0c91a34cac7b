// What every harness needs of a child process that may be killed at any moment: also between a look at it and the next
// message to it.
import type { ChildProcess, Serializable } from 'node:child_process'

/** An exit code, a signal, or why there is no process. */
export type ChildEnding = number | NodeJS.Signals | `could not be started: ${string}`

/**
 * Resolves with how the child ends. A child that could not be started has ended, too: Node then emits 'error' and
 * perhaps no 'exit' (https://nodejs.org/api/child_process.html#event-error). Call it in the turn of the start.
 */
export function endingOf(child: ChildProcess): Promise<ChildEnding> {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ?? code ?? 0))
    child.on('error', (error) => {
      if (child.pid === undefined) resolve(`could not be started: ${error.message}`)
      else console.error(`The child ${child.pid}: ${error}`)
    })
  })
}

/**
 * Sends a message to a child that may just have ended. Without a callback Node emits 'error' on the child
 * (ERR_IPC_CHANNEL_CLOSED or EPIPE), which ends the parent if nobody listens. `onFailure` is called when the message
 * could not be sent.
 */
export function sendTo(child: ChildProcess, message: Serializable, onFailure: (error: Error) => void = () => {}): void {
  // A child that could not be started has no channel.
  if (!child.connected) queueMicrotask(() => onFailure(new Error('The channel to the child is closed')))
  else {
    child.send(message, (error) => {
      if (error) onFailure(error)
    })
  }
}
