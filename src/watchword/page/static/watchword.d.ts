/** How the approval page opens: in a modal dialog over your page, in a small window, or in a new tab. */
export type Flow = "dialog" | "popup" | "tab";

/**
 * Why nothing was approved.
 *
 * - `closed`: the person closed the page, or your page removed the dialog.
 * - `failed`: the approval page says that it cannot be approved.
 * - `blocked`: the browser let no window open; or it did not show the page in the dialog, as where your
 *   origin is not in the server's `page.openers` (the console says so).
 * - `aborted`: your `AbortSignal` said so; its reason is the error's `cause`.
 */
export type Reason = "closed" | "failed" | "blocked" | "aborted";

export interface ApprovalOptions {
  /** Where the approval page is. By default on the origin that served this module. */
  page?: string | URL;
  /** By default `dialog`. */
  flow?: Flow;
  /** The language to ask in, as a tag such as `de`. By default the browser's. */
  lang?: string;
  /** The dialog's title. */
  title?: string;
  /** What a screen reader says for the dialog's button ✕. */
  closeLabel?: string;
  /** Calls it off: the page closes, and the promise rejects as `aborted`. */
  signal?: AbortSignal;
  /** Called before the page opens. */
  onStart?: () => void;
  /** Called when it is over: with the error where it was not approved, and with nothing where it was. */
  onEnd?: (error?: Error) => void;
}

export type StepUpOptions = ApprovalOptions;

/** The person did not approve, or could not. */
export declare class ApprovalError extends Error {
  constructor(reason: Reason, options?: ErrorOptions);
  readonly reason: Reason;
}

/**
 * Make a `fetch` that has protected calls approved, and otherwise is as the browser's own.
 *
 * A call that is refused with 403 (or 400) and a header `x-2fa-approval` opens the approval page, and
 * is repeated exactly once after it was approved. Whatever that brings is the result, a second 403 too.
 * A body must be of a kind that can be sent twice: a stream is refused with `TypeError`. A call that was
 * redirected, or whose mode is `no-cors`, is never repeated: its refusal is the result.
 */
export declare function stepUpFetch(options?: StepUpOptions): typeof fetch;

/**
 * Ask the person to approve what the one-time token stands for, and resolve once it is done.
 *
 * Settles in every case: rejects with `ApprovalError` unless it was approved. Approvals take turns. The
 * dialog is closed by its button or Esc; a click beside it does nothing.
 */
export declare function approve(ott: string, options?: ApprovalOptions): Promise<void>;
