# ruff: noqa: E501 - a rule of a style sheet reads best on one line
"""The style sheet, written from the tokens. Widgets say what they are by properties (`kind`, `tone`, `pane`, …).

Fonts are not set here: a widget gets its font from `Theme.font`, which also switches tabular figures on.
A focused control shows a 2 px ring inside its own bounds; its padding shrinks by as much, so that nothing moves.
"""

from __future__ import annotations

from string import Template

from mlstudio.gui.theme.tokens import Mode, Tokens

_TEMPLATE = Template("""
QToolTip { background: ${surface_raised}; color: ${text_primary}; border: 1px solid ${border_field}; padding: 4px 6px; }

QWidget[pane="window"] { background: ${surface_window}; }
QWidget[pane="base"] { background: ${surface_base}; }
QWidget[pane="sunken"] { background: ${surface_sunken}; }
QWidget[pane="group"] { background: ${surface_group}; }
QWidget[edge="bottom"] { border-bottom: 1px solid ${border_default}; }
QWidget[edge="top"] { border-top: 1px solid ${border_default}; }
QWidget[edge="left"] { border-left: 1px solid ${border_default}; }
QWidget[edge="right"] { border-right: 1px solid ${border_default}; }
QWidget[edge="frame"] { border: 1px solid ${border_default}; border-radius: 4px; }
QFrame[pane="popup"] { background: ${surface_raised}; border: 1px solid ${border_field}; }
QListView[pane="popup"] { background: ${surface_raised}; border: none; }
QWidget[pane="error"] { background: ${status_error_tint}; }
QWidget[pane="warning"] { background: ${status_warning_tint}; }
QWidget[pane="ok"] { background: ${status_ok_tint}; }

QLabel { background: transparent; }
QLabel[tone="primary"] { color: ${text_primary}; }
QLabel[tone="secondary"] { color: ${text_secondary}; }
QLabel[tone="tertiary"] { color: ${text_tertiary}; }
QLabel[tone="disabled"] { color: ${text_disabled}; }
QLabel[tone="accent"] { color: ${accent_text}; }
QLabel[tone="ok"] { color: ${status_ok}; }
QLabel[tone="error"] { color: ${status_error}; }
QLabel[tone="warning"] { color: ${status_warning}; }

QPushButton[kind="secondary"] { background: ${button_fill}; color: ${text_primary}; border: 1px solid ${border_button};
  border-radius: 4px; padding: 0 11px; min-height: 26px; }
QPushButton[kind="secondary"]:hover { background: ${surface_hover}; border-color: ${border_field}; }
QPushButton[kind="secondary"]:pressed { background: ${border_subtle}; }
QPushButton[kind="secondary"]:checked { background: ${accent_tint}; border-color: ${accent_text}; color: ${accent_text}; }
QPushButton[kind="secondary"]:disabled { color: ${text_disabled}; border-color: ${border_default}; background: ${surface_window}; }
QPushButton[kind="secondary"]:focus { border: 2px solid ${focus_ring}; padding: 0 10px; min-height: 24px; }

QPushButton[kind="primary"] { background: ${accent_fill}; color: ${accent_on_fill}; border: 1px solid ${accent_fill};
  border-radius: 4px; padding: 0 11px; min-height: 26px; }
QPushButton[kind="primary"]:hover { background: ${accent_hover}; border-color: ${accent_hover}; }
QPushButton[kind="primary"]:pressed { background: ${accent_pressed}; border-color: ${accent_pressed}; }
QPushButton[kind="primary"]:disabled { background: ${gauge_track}; border-color: ${gauge_track}; color: ${text_disabled}; }

QPushButton[kind="ghost"] { background: transparent; color: ${text_secondary}; border: 1px solid transparent;
  border-radius: 4px; padding: 0 9px; min-height: 26px; }
QPushButton[kind="ghost"]:hover { background: ${ghost_hover}; color: ${text_primary}; }
QPushButton[kind="ghost"]:pressed { background: ${border_subtle}; }
QPushButton[kind="ghost"]:checked { background: ${accent_tint}; border-color: ${accent_text}; color: ${accent_text}; }
QPushButton[kind="ghost"]:disabled { color: ${text_disabled}; }
QPushButton[kind="ghost"]:focus { border: 2px solid ${focus_ring}; padding: 0 8px; min-height: 24px; }

QPushButton[kind="link"] { background: transparent; color: ${accent_text}; border: 1px solid transparent; border-radius: 4px;
  padding: 0 3px; min-height: 22px; text-align: left; }
QPushButton[kind="link"]:hover { text-decoration: underline; }
QPushButton[kind="link"]:disabled { color: ${text_disabled}; }
QPushButton[kind="link"]:focus { border: 2px solid ${focus_ring}; padding: 0 2px; min-height: 20px; }

QPushButton[kind="fold"] { background: transparent; color: ${text_primary}; border: 2px solid transparent; border-radius: 4px;
  padding: 0 4px 0 0; min-height: 20px; text-align: left; }
QPushButton[kind="fold"]:focus { border: 2px solid ${focus_ring}; }

QPushButton[small="true"] { padding: 0 9px; min-height: 22px; }
QPushButton[small="true"]:focus { padding: 0 8px; min-height: 20px; }
QPushButton[large="true"] { padding: 0 15px; min-height: 30px; }
QPushButton[large="true"]:focus { padding: 0 14px; min-height: 28px; }
QPushButton[bare="true"] { padding: 0 6px; }
QPushButton[bare="true"]:focus { padding: 0 5px; }

QPushButton[kind="chip"] { background: ${surface_base}; color: ${text_secondary}; border: 1px solid ${border_default};
  border-radius: 4px; padding: 0 8px; min-height: 22px; }
QPushButton[kind="chip"]:hover { border-color: ${border_field}; color: ${text_primary}; }
QPushButton[kind="chip"]:checked { background: ${accent_tint}; border-color: ${accent_text}; color: ${accent_text}; }
QPushButton[kind="chip"]:disabled { color: ${text_disabled}; }
QPushButton[kind="chip"]:focus { border: 2px solid ${focus_ring}; padding: 0 7px; min-height: 20px; }
QPushButton[kind="chip"][tall="true"] { min-height: 26px; padding: 0 9px; }
QPushButton[kind="chip"][tall="true"]:focus { min-height: 24px; padding: 0 8px; }

QPushButton[kind="segment"] { background: ${surface_base}; color: ${text_primary}; border: 1px solid ${border_field};
  padding: 0 10px; min-height: 26px; border-radius: 0; }
QPushButton[kind="segment"][place="first"] { border-top-left-radius: 4px; border-bottom-left-radius: 4px; border-right: none; }
QPushButton[kind="segment"][place="middle"] { border-right: none; }
QPushButton[kind="segment"][place="last"] { border-top-right-radius: 4px; border-bottom-right-radius: 4px; }
QPushButton[kind="segment"][place="only"] { border-radius: 4px; }
QPushButton[kind="segment"]:hover { background: ${surface_hover}; }
QPushButton[kind="segment"]:checked { background: ${accent_tint}; color: ${accent_text}; }
QPushButton[kind="segment"]:disabled { color: ${text_disabled}; border-color: ${border_default}; }
QPushButton[kind="segment"]:focus { border: 2px solid ${focus_ring}; padding: 0 9px; min-height: 24px; }

QLineEdit, QSpinBox, QDoubleSpinBox { background: ${surface_base}; color: ${text_primary}; border: 1px solid ${border_field};
  border-radius: 4px; padding: 0 8px; min-height: 26px;
  selection-background-color: ${accent_fill}; selection-color: ${accent_on_fill}; }
QLineEdit:focus, QSpinBox:focus, QDoubleSpinBox:focus { border: 2px solid ${focus_ring}; padding: 0 7px; min-height: 24px; }
QLineEdit:disabled { color: ${text_disabled}; border-color: ${border_default}; background: ${surface_window}; }
QLineEdit[wrong="true"] { border: 1px solid ${status_error}; }
QLineEdit[wrong="true"]:focus { border: 2px solid ${status_error}; }

QComboBox { background: ${surface_base}; color: ${text_primary}; border: 1px solid ${border_field}; border-radius: 4px;
  padding: 0 26px 0 8px; min-height: 26px; combobox-popup: 0; }
QComboBox:focus, QComboBox:on { border: 2px solid ${focus_ring}; padding: 0 25px 0 7px; min-height: 24px; }
QComboBox:disabled { color: ${text_disabled}; border-color: ${border_default}; background: ${surface_window}; }
QComboBox[wrong="true"] { border-color: ${status_error}; }
QComboBox[small="true"] { min-height: 22px; }
QComboBox[small="true"]:focus, QComboBox[small="true"]:on { min-height: 20px; }
QComboBox::drop-down { border: none; width: 24px; }
QComboBox::down-arrow { image: none; width: 0; height: 0; }
QComboBox QLineEdit, QComboBox QLineEdit:focus { border: none; padding: 0; min-height: 20px; background: transparent; }
QComboBox QAbstractItemView { background: ${surface_raised}; color: ${text_primary}; border: 1px solid ${border_field};
  selection-background-color: ${surface_selected}; selection-color: ${text_primary}; padding: 3px; outline: none; }
QComboBox QAbstractItemView::item { min-height: 26px; padding: 0 6px; }

QAbstractScrollArea { border: none; }
QPlainTextEdit, QTextEdit { background: ${surface_base}; color: ${text_primary}; border: 1px solid ${border_field};
  border-radius: 4px; selection-background-color: ${accent_fill}; selection-color: ${accent_on_fill}; }
QPlainTextEdit:focus, QTextEdit:focus { border: 2px solid ${focus_ring}; }
QPlainTextEdit[code="true"], QTextEdit[code="true"] { background: ${surface_sunken}; border: none; border-radius: 0; }
QPlainTextEdit[code="true"]:focus, QTextEdit[code="true"]:focus { border: none; }
QTextEdit[wrong="true"] { border: 1px solid ${status_error}; }

QScrollArea, QScrollArea > QWidget > QWidget[bare="true"] { background: transparent; }
QTableView, QListView, QTreeView { background: ${surface_base}; color: ${text_primary}; border: none; gridline-color: ${border_subtle};
  selection-background-color: ${surface_selected}; selection-color: ${text_primary}; outline: none; }
QTableView::item { padding: 0 5px; border: none; }
QHeaderView { background: ${surface_window}; border: none; }
QHeaderView::section { background: ${surface_window}; color: ${text_secondary}; border: none;
  border-bottom: 1px solid ${border_default}; padding: 0 8px; height: 27px; }
QHeaderView::section:hover { color: ${text_primary}; }
QTableCornerButton::section { background: ${surface_window}; border: none; border-bottom: 1px solid ${border_default}; }

QScrollBar:vertical { background: transparent; width: 10px; margin: 0; border: none; }
QScrollBar:horizontal { background: transparent; height: 10px; margin: 0; border: none; }
QScrollBar::handle:vertical { background: ${scroll_handle}; min-height: 28px; border-radius: 3px; margin: 2px; }
QScrollBar::handle:horizontal { background: ${scroll_handle}; min-width: 28px; border-radius: 3px; margin: 2px; }
QScrollBar::handle:hover { background: ${border_field}; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; border: none; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }
QAbstractScrollArea::corner { background: transparent; }

QMenu { background: ${surface_raised}; color: ${text_primary}; border: 1px solid ${border_field}; padding: 4px; }
QMenu::item { padding: 5px 28px 5px 10px; border-radius: 2px; background: transparent; }
QMenu::item:selected { background: ${surface_selected}; }
QMenu::item:disabled { color: ${text_disabled}; }
QMenu::separator { height: 1px; background: ${border_default}; margin: 4px 6px; }
QMenu::icon { padding-left: 8px; }

QSplitter::handle { background: ${border_default}; }
QSlider { min-height: 18px; }
QSlider::groove:horizontal { height: 2px; background: ${gauge_track}; border-radius: 1px; }
QSlider::sub-page:horizontal { height: 2px; background: ${accent_text}; border-radius: 1px; }
QSlider::handle:horizontal { width: 10px; height: 10px; margin: -5px 0; border-radius: 6px;
  background: ${surface_base}; border: 1px solid ${accent_text}; }
QSlider::handle:horizontal:focus { border: 2px solid ${focus_ring}; width: 8px; height: 8px; }
QSlider::handle:horizontal:disabled { border-color: ${text_disabled}; }
QWidget[step="running"] { background: ${surface_selected}; }
QDialog { background: ${surface_base}; }
""")


def write_style_sheet(tokens: Tokens, mode: Mode) -> str:
    """The application's style sheet for light or dark. Pure: the same tokens give the same text."""
    colours = {name.replace(".", "_"): tokens.colour(mode, name) for name in tokens.colour_names()}
    ink = colours["text_primary"]
    colours["accent_hover"] = _mix(colours["accent_fill"], ink, 0.12)
    colours["accent_pressed"] = _mix(colours["accent_fill"], ink, 0.24)
    colours["ghost_hover"] = _mix(colours["surface_window"], ink, 0.06)
    colours["scroll_handle"] = _mix(colours["border_default"], ink, 0.10)
    return _TEMPLATE.substitute(colours)


def _mix(first: str, second: str, share: float) -> str:
    """`second` over `first` with the opacity `share`; both ``#RRGGBB``."""
    pairs = zip(bytes.fromhex(first[1:7]), bytes.fromhex(second[1:7]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)
