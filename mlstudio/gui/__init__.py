"""The window. The only floor that imports PySide6 and pyqtgraph.

How it fits together
    `application.main` puts everything together: `Theme`, `Studio`, `Bridge`, `Shell`. A page is a QWidget built with
    ``(studio, bridge, theme)``; the shell shows it and asks nothing else of it. Its optional methods, called by the
    shell: ``page_shown()``, ``page_hidden()`` and ``go_back() -> bool`` (Escape; True if the page took it).

Never wait on the interface thread
    ``bridge.read(lambda history: history.runs(limit=50), self._on_runs, owner=self, key="runs")`` reads the history on
    its one thread. ``bridge.call(work, then, owner=self, failed=…)`` does other slow things on a small pool. Both answer
    here; both forget the answer when `owner` is deleted. ``bridge.changed`` (a `ChangeSet`) comes at most once a tick.
    ``bridge.launches.launch(spec)`` and ``.build(plan)`` return a key; ``.progressed`` / ``.submitted`` / ``.finished``
    bring `LaunchView`s (phase, `StepView`s, error, run id); ``.cancel(key)``.

The look
    `theme.theme.Theme`: ``colour("text.secondary")`` → QColor, ``hex``, ``font("body", weight="medium")``, ``mono()``,
    ``icon("ph.copy", "text.secondary")``, ``draw_icon(painter, name, rectf, colour)``, ``run_colour(index)``,
    ``run_lap``, ``state("running")`` → (icon, word, colour), ``length("height.row")``, ``focus_pen()``, signal
    ``changed``.
    Names are those of ``resources/theme/tokens.json``. Text sizes: micro small body lead page_title run_title empty_title
    mono; weights: regular medium semibold. Only painted widgets need `changed`; the style sheet and icons
    follow by themselves.
    `figures`: number_text, duration_text, clock_text, bytes_text, when_text, moment_text, count_text.

Widgets (all in `mlstudio.gui.widgets`; `theme` is a constructor argument of nearly all)
    text       Label(text, theme, tone=, size=, weight=, mono=, wrap=, selectable=), CutLabel (ellipsis), restyle(widget)
    buttons    Button(text, theme, kind="secondary"|"primary"|"ghost"|"link", icon=, size="small"|"normal"|"large",
               shortcut=), IconButton(icon, name, theme), Chip(text, theme, checkable=, tall=, icon=),
               Segmented([(value, text)…], theme, name=) .value()/.set_value()/value_changed, CheckBox(text, theme)
    fields     Field(theme, name=, mono=, icon=) .set_hint(text, changed=)/.set_wrong(), SearchField,
               Select(theme, name=, options=[(value, text)…], editable=) .value()/.set_value()/.set_detail()/value_changed
    filter_line FilterLine(theme, name=, placeholder=, ask=) .show_error(text, error)/.clear_error(text)/.sentence/
               filter_changed/left: the filter language with completions; suggestions.Suggestions is its list
    form       Form(theme) .add_section(title, phrase=)/.add_row(label, widget or layout, name="code.folder", hint=)/
               .row("limits.memory_bytes") (nearest parent)/.clear_errors(); FormRow.set_error(text)/.set_hint(text);
               SectionHeader(title, theme, phrase=), Line(vertical=)
    panes      Pane(ground=, edge=) .column, Bar(height=40|32|24, ground=, edge=) .row, Scroll(content),
               Splitter(vertical=)
    header     PageHeader(title, theme) .add_left()/.add_right()
    tabs       TabLine(theme, name=) .add(key, text, count=)/.choose(key)/chosen
    state      Mark(theme) .set_state("running") / .set_level("ok"|"info"|"warning"|"error"|"running"|"waiting", text)
    progress   ThinBar(theme) .set_share(0…1), BusyLine(theme) .start()/.stop()
    code       CodeView(theme, name=, language="dockerfile"|"python"|"shell"|"diff"|"text", numbers=, editable=)
               .set_code()/.set_notes({line: (text, colour)})/.set_explanations({line: sentence})/.mark_lines(range)/
               .content_height()
    steps      StepList(theme) .set_steps([StepView(step, last_lines)…])
    notice     NoticeLine (the shell's; a page emits to it through ``bridge.notice(text, level=, acts=)``),
               Trouble(theme, bar=) .show_error(error, act=(words, callable))/.show_words(…)/.clear()
    dot        RunDot(theme) .set_colour(index), draw_run_dot(painter, theme, colour, centre): a run's mark
    empty      EmptyState(statement, sentence, theme, large=) .add_button()/.set_cost()
"""
