<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="generator" content="bids_segsr, assembled by nireports" />
<title>{{ title }}</title>
{% for hh in header %}
{{ hh }}
{% endfor %}
</head>
<body data-bs-spy="scroll" data-bs-target="#sections" data-bs-root-margin="-20% 0px -70%" data-bs-threshold="[0]">
<a class="visually-hidden-focusable skip" href="#content">Skip to the content</a>
<nav class="navbar navbar-dark navbar-expand-lg fixed-top" aria-label="Sections">
<div class="container-fluid">
{% for item in navbar %}
{{ item }}
{% endfor %}
<button class="navbar-toggler" type="button" data-bs-toggle="collapse" data-bs-target="#sections" aria-controls="sections" aria-expanded="false" aria-label="Show the sections"><span class="navbar-toggler-icon"></span></button>
<div class="collapse navbar-collapse" id="sections">
<ul class="navbar-nav ms-auto">
{% for section in sections %}
{% set headings = section.reportlets | selectattr('title') | list %}
{% if headings | length > 1 %}
<li class="nav-item dropdown">
<a class="nav-link dropdown-toggle" id="to-{{ section.name }}" role="button" data-bs-toggle="dropdown" aria-expanded="false" href="#{{ section.name }}">{{ section.title }}</a>
<ul class="dropdown-menu dropdown-menu-dark dropdown-menu-end" aria-labelledby="to-{{ section.name }}">
{% for reportlet in headings %}
<li><a class="dropdown-item" href="#{{ reportlet.name }}">{{ reportlet.title | e }}</a></li>
{% endfor %}
</ul>
</li>
{% else %}
<li class="nav-item"><a class="nav-link" href="#{{ section.name }}">{{ section.title }}</a></li>
{% endif %}
{% endfor %}
</ul>
</div>
</div>
</nav>
<main id="content">
{% for section in sections %}
<section id="{{ section.name }}" class="step">
{% if loop.first %}<h1>{{ heading }}</h1>{% endif %}
<h2>{{ section.title }}</h2>
{% for reportlet in section.reportlets %}
{% if loop.first and reportlet.description %}
<p class="reading">{{ reportlet.description }}</p>
{% endif %}
<div id="{{ reportlet.name }}" class="image">
{% if reportlet.title %}
<h3>{{ reportlet.title | e }}</h3>
{% endif %}
{% for content, caption in reportlet.components %}
<figure{% if 'class="reportlet"' in content or 'svg-reportlet' in content %} tabindex="0"{% endif %}>
{{ content | replace('<object class', '<object aria-label="' ~ section.title ~ '" class') | replace('<img class', '<img alt="' ~ section.title ~ '" class') | replace('Get figure file:', 'Open figure:') }}
{% if caption %}
<figcaption>{{ caption }}</figcaption>
{% endif %}
</figure>
{% endfor %}
</div>
{% endfor %}
</section>
{% endfor %}
</main>
<footer>
{% for ff in footer %}
{{ ff }}
{% endfor %}
</footer>
</body>
</html>
