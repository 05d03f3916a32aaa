// The CodeMirror editor of endpoint documents. Loaded when it is first needed.
import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, type CompletionContext, type CompletionResult, startCompletion } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, isolateHistory } from '@codemirror/commands';
import { json } from '@codemirror/lang-json';
import { bracketMatching, foldGutter, foldKeymap, HighlightStyle, indentOnInput, indentUnit, syntaxHighlighting } from '@codemirror/language';
import { type Diagnostic, lintGutter, lintKeymap, setDiagnostics } from '@codemirror/lint';
import { MergeView } from '@codemirror/merge';
import { highlightSelectionMatches, search, searchKeymap } from '@codemirror/search';
import { EditorState, type Extension } from '@codemirror/state';
import { drawSelection, EditorView, highlightActiveLine, hoverTooltip, keymap, lineNumbers } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import type { Finding } from '../../api/client';
import { JsonFault, locate, parse, placeInMessage, tryParse, type Edit } from '../../lib/json';
import { placeAt, proposals, rangeOf, schemasAt, type Schema } from '../../lib/schema';

const colours = HighlightStyle.define([
  { tag: tags.propertyName, color: 'var(--code-key)' },
  { tag: tags.string, color: 'var(--code-text)' },
  { tag: [tags.number, tags.bool, tags.null], color: 'var(--code-number)' },
]);

const look = EditorView.theme({
  '&': { color: 'var(--text)', backgroundColor: 'var(--surface)', fontSize: '0.8125rem', height: '100%' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.5' },
  '.cm-content': { caretColor: 'var(--text)', padding: '8px 0' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': { backgroundColor: 'var(--accent-soft)' },
  '.cm-gutters': { backgroundColor: 'var(--surface)', color: 'var(--muted)', border: 'none' },
  '.cm-activeLine, .cm-activeLineGutter': { backgroundColor: 'color-mix(in srgb, var(--sunken) 60%, transparent)' },
  '.cm-tooltip': { backgroundColor: 'var(--surface)', color: 'var(--text)', border: '1px solid var(--line-strong)', borderRadius: '6px', boxShadow: 'var(--shadow)' },
  '.cm-tooltip-autocomplete > ul > li[aria-selected]': { backgroundColor: 'var(--accent)', color: 'var(--accent-text)' },
  '.cm-tooltip.cm-completionInfo, .cm-hint': { padding: '8px 12px', maxWidth: '360px', whiteSpace: 'pre-wrap', fontFamily: 'var(--sans)' },
  '.cm-completionDetail': { color: 'inherit', fontStyle: 'normal', opacity: '0.8' },
  // CodeMirror's own marks are data: images, which a strict CSP keeps out.
  '.cm-lintRange-error': { backgroundImage: 'none', textDecoration: 'underline wavy 1.5px var(--red)', textUnderlineOffset: '3px' },
  '.cm-lintRange-warning': { backgroundImage: 'none', textDecoration: 'underline wavy 1.5px var(--amber)', textUnderlineOffset: '3px' },
  '.cm-lint-marker': { content: 'none !important', width: '0.6em', height: '0.6em', margin: '0.4em 0.2em' },
  '.cm-lint-marker-error': { backgroundColor: 'var(--red)' },
  '.cm-lint-marker-warning': { backgroundColor: 'var(--amber)', borderRadius: '50%' },
  '.cm-diagnostic-error': { borderLeftColor: 'var(--red)' },
  '.cm-diagnostic-warning': { borderLeftColor: 'var(--amber)' },
  '.cm-diagnostic': { padding: '4px 12px', fontFamily: 'var(--sans)' },
  '.cm-panels': { backgroundColor: 'var(--sunken)', color: 'var(--text)' },
  '.cm-panels input, .cm-panels button': { color: 'var(--text)', backgroundColor: 'var(--surface)', backgroundImage: 'none', border: '1px solid var(--line-strong)' },
  '.cm-foldPlaceholder': { backgroundColor: 'var(--sunken)', color: 'var(--text)', border: '1px solid var(--line)' },
  '.cm-matchingBracket': { backgroundColor: 'var(--accent-soft) !important' },
  '.cm-searchMatch': { backgroundColor: 'var(--amber-soft)', outline: '1px solid var(--amber)' },
  '.cm-deletedChunk, &.cm-merge-a .cm-changedLine': { backgroundColor: 'var(--red-soft)' },
  '&.cm-merge-b .cm-changedLine': { backgroundColor: 'var(--green-soft)' },
  '&.cm-merge-a .cm-changedText': { background: 'none', textDecoration: 'underline 2px var(--red)' },
  '&.cm-merge-b .cm-changedText': { background: 'none', textDecoration: 'underline 2px var(--green)' },
  '.cm-collapsedLines': { background: 'var(--sunken)', color: 'var(--muted)', padding: '4px 16px', fontFamily: 'var(--sans)' },
  '.cm-collapsedLines:before, .cm-collapsedLines:after': { content: '"⋯" !important', margin: '0 8px' },
});

function shared(label: string): Extension {
  return [lineNumbers(), json(), syntaxHighlighting(colours), look, EditorView.lineWrapping, EditorView.contentAttributes.of({ 'aria-label': label })];
}

export interface EditorOptions {
  /** CodeMirror brings its own styles. In a shadow tree they are adopted sheets, which a strict CSP lets pass. */
  root: ShadowRoot;
  text: string;
  label: string;
  readOnly: boolean;
  schema: () => Schema | null;
  onchange: (text: string) => void;
  onsave: () => void;
}

export class DocumentEditor {
  readonly view: EditorView;

  constructor(options: EditorOptions) {
    const writable: Extension = options.readOnly
      ? [EditorState.readOnly.of(true)]
      : [
          history(),
          indentOnInput(),
          closeBrackets(),
          autocompletion({ override: [(context) => complete(context, options.schema())], activateOnTyping: true, icons: false }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) options.onchange(update.state.doc.toString());
          }),
        ];
    this.view = new EditorView({
      parent: options.root,
      root: options.root,
      state: EditorState.create({
        doc: options.text,
        extensions: [
          keymap.of([{ key: 'Mod-Enter', run: () => (options.onsave(), true) }, { key: 'Tab', run: acceptCompletion }]),
          shared(options.label),
          foldGutter(),
          bracketMatching(),
          drawSelection(),
          highlightActiveLine(),
          highlightSelectionMatches(),
          search({ top: true }),
          lintGutter(),
          indentUnit.of('  '),
          hoverTooltip((view, at) => hint(view, at, options.schema())),
          writable,
          keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...foldKeymap, ...completionKeymap, ...lintKeymap]),
        ],
      }),
    });
  }

  get text(): string {
    return this.view.state.doc.toString();
  }

  /** One step to undo, whatever was typed just before. */
  set text(text: string) {
    if (text === this.text) return;
    this.view.dispatch({ changes: { from: 0, to: this.view.state.doc.length, insert: text }, annotations: isolateHistory.of('full') });
  }

  apply(edit: Edit): void {
    this.view.dispatch({ changes: edit });
  }

  /** Marks what the server says at its lines, or else where the text stops being JSON. */
  mark(errors: Finding[], warnings: Finding[]): void {
    const text = this.text;
    const root = tryParse(text);
    const found: Diagnostic[] = [];
    if (!root) found.push(syntaxFault(text));
    const add = (finding: Finding, severity: 'error' | 'warning') => {
      if (!root) return;
      const place = finding.path ? locate(root, finding.path) : point(placeInMessage(text, finding.message) ?? 0, text);
      found.push({ ...place, severity, message: finding.path ? `${finding.path}: ${finding.message}` : finding.message });
    };
    for (const finding of errors) add(finding, 'error');
    for (const finding of warnings) add(finding, 'warning');
    found.sort((a, b) => a.from - b.from);
    this.view.dispatch(setDiagnostics(this.view.state, found));
  }

  /** Shows the place of a path, with the cursor on it. */
  reveal(path: string): void {
    const root = tryParse(this.text);
    if (!root) return;
    const { from } = locate(root, path);
    this.view.dispatch({ selection: { anchor: from }, effects: EditorView.scrollIntoView(from, { y: 'center' }) });
    this.view.focus();
  }

  destroy(): void {
    this.view.destroy();
  }
}

const point = (at: number, text: string) => ({ from: Math.min(at, Math.max(0, text.length - 1)), to: Math.min(at + 1, text.length) });

function syntaxFault(text: string): Diagnostic {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof JsonFault) return { ...point(error.at, text), severity: 'error', message: error.message };
  }
  return { ...point(0, text), severity: 'error', message: 'this is no JSON' };
}

function complete(context: CompletionContext, schema: Schema | null): CompletionResult | null {
  const text = context.state.doc.toString();
  const at = schema && placeAt(text, context.pos);
  if (!schema || !at) return null;
  const typed = at.from < context.pos;
  if (!typed && !context.explicit) return null;
  const closing = at.quoted && text[context.pos] === '"' ? 1 : 0;
  const options = proposals(schema, at).map((proposal) => ({
    label: proposal.label,
    detail: proposal.detail,
    ...(proposal.info ? { info: proposal.info } : {}),
    type: at.kind === 'key' ? 'property' : 'enum',
    apply: (view: EditorView, _completion: unknown, _from: number, to: number) => {
      const end = to + closing;
      const after = /^\s*:/.test(view.state.sliceDoc(end, end + 20));
      const insert = at.kind === 'key' && after ? JSON.stringify(proposal.label) : proposal.text;
      view.dispatch({ changes: { from: at.from, to: end, insert }, selection: { anchor: at.from + insert.length - (after ? 0 : proposal.back) } });
      if (at.kind === 'key' && !after) startCompletion(view);
    },
  }));
  return options.length ? { from: at.from + (at.quoted ? 1 : 0), options, validFor: /^[\w$]*$/ } : null;
}

/** What a name stands for, when it is pointed at. */
function hint(view: EditorView, at: number, schema: Schema | null) {
  const root = schema && tryParse(view.state.doc.toString());
  if (!schema || !root) return null;
  let here = root;
  const path: (string | number)[] = [];
  for (;;) {
    const member = here.members?.find((each) => each.from <= at && at <= each.node.to);
    const item = here.items?.findIndex((each) => each.from <= at && at <= each.to) ?? -1;
    if (member) {
      path.push(member.key);
      if (at <= member.to) {
        const found = schemasAt(schema, path)[0];
        const lines = found && [found.description, rangeOf(found), found.default === undefined ? '' : `default: ${JSON.stringify(found.default)}`].filter(Boolean);
        if (!lines?.length) return null;
        return { pos: member.from, end: member.to, create: () => ({ dom: Object.assign(document.createElement('div'), { className: 'cm-hint', textContent: lines.join('\n') }) }) };
      }
      here = member.node;
    } else if (item >= 0) {
      path.push(item);
      here = here.items![item]!;
    } else return null;
  }
}

/** Two texts side by side, what they have in common folded away. */
export function sideBySide(root: ShadowRoot, before: string, after: string, labels: [string, string]): MergeView {
  const side = (doc: string, label: string) => ({ doc, extensions: [shared(label), EditorState.readOnly.of(true), EditorView.editable.of(false), EditorView.contentAttributes.of({ tabindex: '0' })] });
  return new MergeView({ parent: root, root, a: side(before, labels[0]), b: side(after, labels[1]), collapseUnchanged: { margin: 3, minSize: 6 }, gutter: true });
}
