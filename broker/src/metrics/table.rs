//! The form of a metric table, and the macro that makes a struct of registered series from one.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// A row.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// The series' name.
    pub name: &'static str,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// Labels beside cluster, node_type and node_id.
    pub labels: &'static [&'static str],
    /// Upper bounds of a histogram.
    pub buckets: &'static [f64],
    /// What is counted, with its unit.
    pub help: &'static str,
}

/// A struct that was made from a table.
pub trait Definitions {
    /// The table.
    const TABLE: &'static [Definition];
}

/// A kind of series.
pub(crate) trait SeriesKind: Collector + Clone + Sized + 'static {
    const KIND: &'static str;
    fn make(definition: &Definition) -> Result<Self, prometheus::Error>;

    fn register(definition: &Definition, registry: &Registry) -> Result<Self, prometheus::Error> {
        let series = Self::make(definition)?;
        registry.register(Box::new(series.clone()))?;
        Ok(series)
    }
}

macro_rules! series {
    ($($Type:ident $kind:literal $definition:ident $make:expr;)+) => {$(
        impl SeriesKind for $Type {
            const KIND: &'static str = $kind;
            fn make($definition: &Definition) -> Result<Self, prometheus::Error> {
                $make
            }
        }
    )+};
}

series! {
    IntCounter "counter" d Self::new(d.name, d.help.trim());
    IntCounterVec "counter" d Self::new(Opts::new(d.name, d.help.trim()), d.labels);
    IntGauge "gauge" d Self::new(d.name, d.help.trim());
    IntGaugeVec "gauge" d Self::new(Opts::new(d.name, d.help.trim()), d.labels);
    Gauge "gauge" d Self::new(d.name, d.help.trim());
    GaugeVec "gauge" d Self::new(Opts::new(d.name, d.help.trim()), d.labels);
    Histogram "histogram" d Self::with_opts(HistogramOpts::new(d.name, d.help.trim()).buckets(d.buckets.to_vec()));
    HistogramVec "histogram" d Self::new(HistogramOpts::new(d.name, d.help.trim()).buckets(d.buckets.to_vec()), d.labels);
}

/// A row: doc comment (= help), `field: Series = "name" [labels] [buckets];`.
macro_rules! metrics {
    (
        $(#[$outer:meta])*
        pub struct $Name:ident {$(
            $(#[doc = $doc:literal])+
            $field:ident : $ty:ty = $name:literal [$($label:literal),*] [$($bucket:expr),*];
        )+}
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone)]
        pub struct $Name {$(
            $(#[doc = $doc])+
            #[doc = concat!("\n\n`", $name, "`")]
            pub $field: $ty,
        )+}

        impl $crate::metrics::Definitions for $Name {
            const TABLE: &'static [$crate::metrics::Definition] = &[$(
                $crate::metrics::Definition {
                    name: $name,
                    kind: <$ty as $crate::metrics::table::SeriesKind>::KIND,
                    labels: &[$($label),*],
                    buckets: &[$($bucket),*],
                    help: concat!($($doc),+),
                },
            )+];
        }

        impl $Name {
            /// Registers every series of the table.
            ///
            /// # Errors
            /// When the registry has a series of the same name already.
            pub fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
                let mut table = <Self as $crate::metrics::Definitions>::TABLE.iter();
                let mut next = || table.next().ok_or_else(|| prometheus::Error::Msg("the table is shorter than the struct".to_owned()));
                Ok(Self {$(
                    $field: <$ty as $crate::metrics::table::SeriesKind>::register(next()?, registry)?,
                )+})
            }
        }
    };
}
pub(super) use metrics;
