"""Why a model answers so: estimators of attributions and their pictures. Knows neither models nor HTTP."""
