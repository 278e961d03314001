"""Figures in the form of the articles."""

from __future__ import annotations

import numpy as np

from bids_segsr.evaluation.article_figures import draw_trainings


def test_curves_of_several_trainings():
    runs = {
        'with GAN': [
            {'epoch': 0, 'psnr': 20.0, 'dice': 0.0},
            {'epoch': 1, 'psnr': 21.0, 'dice': 0.5},
        ],
        'without': [{'epoch': 0, 'psnr': 19.0, 'dice': np.nan}, {'epoch': 1, 'psnr': 22.0}],
    }
    figure = draw_trainings(runs)
    lines = {line.get_label(): line for ax in figure.axes for line in ax.get_lines()}
    assert set(lines) == {'PSNR, with GAN', 'Dice, with GAN', 'PSNR, without'}
    assert list(lines['PSNR, without'].get_ydata()) == [19.0, 22.0]
    styles = {label: line.get_linestyle() for label, line in lines.items()}
    assert styles['PSNR, with GAN'] == styles['Dice, with GAN'] != styles['PSNR, without']


def test_curves_against_minutes_and_nothing_is_cut_off():
    rows = [{'epoch': 0, 'minutes': 2.0, 'psnr': 20.0, 'dice': 0.1}]
    runs = {f'a training of a rather long name, {n}': rows for n in range(4)}
    figure = draw_trainings(runs, 'minutes')
    figure.draw_without_rendering()
    assert {line.get_xdata()[0] for ax in figure.axes for line in ax.get_lines()} == {2.0}
    (legend,) = figure.legends
    drawn, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= drawn.x0 and drawn.x1 <= whole.x1
