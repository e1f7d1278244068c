//! Line charts as SVG, written by hand: a few lines, two axes, a legend. Pure.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;

/// One line of a chart.
#[derive(Debug, Clone)]
pub struct Series {
    /// As in the legend.
    pub name: String,
    /// Values, one for each place on the horizontal axis; a place without a value breaks nothing.
    pub values: Vec<Option<f64>>,
}

/// A chart whose horizontal axis has named places at equal distances.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Under the horizontal axis.
    pub places_label: String,
    /// Beside the vertical axis.
    pub values_label: String,
    /// Names of the places.
    pub places: Vec<String>,
    /// Lines.
    pub series: Vec<Series>,
    /// Whether the vertical axis is logarithmic.
    pub logarithmic: bool,
}

const COLOURS: [&str; 4] = ["#c0392b", "#1f6fb2", "#2e8b57", "#8e6c1f"];

impl Chart {
    /// The picture.
    pub fn svg(&self) -> String {
        let scale = Scale::of(self);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        text(&mut out, (WIDTH / 2.0, 20.0), "middle", &self.title);
        text(
            &mut out,
            (WIDTH / 2.0, HEIGHT - 12.0),
            "middle",
            &self.places_label,
        );
        let _ = writeln!(
            out,
            "<text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(TOP, HEIGHT - BOTTOM),
            escaped(&self.values_label)
        );
        for tick in scale.ticks() {
            let y = scale.y(tick);
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>",
                WIDTH - RIGHT
            );
            text(&mut out, (LEFT - 8.0, y + 4.0), "end", &short(tick));
        }
        for (number, place) in self.places.iter().enumerate() {
            text(
                &mut out,
                (scale.x(number), HEIGHT - BOTTOM + 18.0),
                "middle",
                place,
            );
        }
        for (number, (series, colour)) in self.series.iter().zip(COLOURS).enumerate() {
            self.line(&mut out, &scale, series, colour);
            #[expect(clippy::cast_precision_loss, reason = "a handful of lines")]
            let y = TOP + 6.0 + 18.0 * number as f64;
            let x = LEFT + 12.0;
            let _ = writeln!(
                out,
                "<line x1=\"{x}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                x + 24.0
            );
            text(&mut out, (x + 30.0, y + 4.0), "start", &series.name);
        }
        out.push_str("</svg>\n");
        out
    }

    fn line(&self, out: &mut String, scale: &Scale, series: &Series, colour: &str) {
        let points: Vec<(f64, f64)> = series
            .values
            .iter()
            .take(self.places.len())
            .enumerate()
            .filter_map(|(place, value)| {
                let value = (*value).filter(|value| value.is_finite() && *value > 0.0)?;
                Some((scale.x(place), scale.y(value)))
            })
            .collect();
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y) in points {
            let _ = writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
    }
}

/// From values to places in the picture.
struct Scale {
    places: usize,
    least: f64,
    greatest: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(chart: &Chart) -> Self {
        let values = chart
            .series
            .iter()
            .flat_map(|series| series.values.iter().flatten())
            .copied()
            .filter(|value| value.is_finite() && *value > 0.0);
        let (least, greatest) = values
            .fold((f64::INFINITY, 0.0_f64), |(least, greatest), value| {
                (least.min(value), greatest.max(value))
            });
        let greatest = if greatest > 0.0 { greatest } else { 1.0 };
        let (least, greatest) = if chart.logarithmic {
            let least = least.min(greatest);
            (
                10_f64.powf(least.log10().floor()),
                10_f64.powf(greatest.log10().ceil()),
            )
        } else {
            (0.0, greatest * 1.08)
        };
        Self {
            places: chart.places.len(),
            least,
            greatest: if greatest > least {
                greatest
            } else {
                least * 10.0
            },
            logarithmic: chart.logarithmic,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a handful of places")]
    fn x(&self, place: usize) -> f64 {
        let steps = self.places.saturating_sub(1).max(1) as f64;
        LEFT + 20.0 + place as f64 * (WIDTH - LEFT - RIGHT - 40.0) / steps
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.least).log10() / (self.greatest / self.least).log10()
        } else {
            (value - self.least) / (self.greatest - self.least)
        };
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        if self.logarithmic {
            let mut tick = self.least;
            while tick <= self.greatest * 1.001 {
                ticks.push(tick);
                tick *= 10.0;
            }
            return ticks;
        }
        let rough = self.greatest / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let mut tick = 0.0;
        while tick <= self.greatest {
            ticks.push(tick);
            tick += step;
        }
        ticks
    }
}

fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{} M", value / 1e6)
    } else if value >= 1e3 {
        format!("{} k", value / 1e3)
    } else {
        format!("{value}")
    }
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

fn escaped(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: Vec<Option<f64>>, logarithmic: bool) -> String {
        Chart {
            title: "a < b".into(),
            places_label: "in flight".into(),
            values_label: "messages/s".into(),
            places: vec!["1".into(), "2".into(), "4".into()],
            series: vec![Series {
                name: "ours".into(),
                values,
            }],
            logarithmic,
        }
        .svg()
    }

    #[test]
    fn higher_values_stand_higher_and_missing_ones_are_left_out() {
        let svg = chart(vec![Some(100.0), None, Some(400.0)], false);
        let ys: Vec<f64> = svg
            .split("cy=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(ys.len(), 2);
        assert!(ys[1] < ys[0] && ys[1] > TOP, "{ys:?}");
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_logarithmic_axis_gives_each_power_the_same_room() {
        let svg = chart(vec![Some(10.0), Some(100.0), Some(1000.0)], true);
        let ys: Vec<f64> = svg
            .split("cy=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!(((ys[0] - ys[1]) - (ys[1] - ys[2])).abs() < 0.2, "{ys:?}");
    }

    #[test]
    fn a_chart_without_values_is_still_a_picture() {
        for logarithmic in [false, true] {
            let svg = chart(vec![None, Some(f64::NAN), None], logarithmic);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
